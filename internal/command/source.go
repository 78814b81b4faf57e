package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// source reads what is stored: the state's file, or the exporter that has it.
type source interface {
	// events returns the events with this delivery, or all for "", the oldest first.
	events(context.Context, store.Delivery) ([]store.Event, error)
	export(context.Context, io.Writer) error
	// backup makes a new file at the path, or none.
	backup(ctx context.Context, path string) error
	close() error
}

// stored returns the source of the commands that read the state: the exporter that --url names,
// else the file, else the exporter that serves from it.
func (p *Program) stored() (source, error) {
	f := p.flags.exporter
	if f.url != "" {
		return f.client(f.url)
	}
	s, err := store.OpenForReading(p.Config.Storage.Path)
	locked := new(store.LockedError)
	switch {
	case err == nil:
		return file{s}, nil
	case !errors.As(err, &locked):
		return nil, err
	case locked.URL == "":
		return nil, fmt.Errorf("%w: wait for it to end, or, where it is an exporter that serves in a container or on another host, name its address with --url", err)
	}
	p.Logger.Debug("an exporter serves this state: asking it", "url", locked.URL, "pid", locked.PID)
	return f.client(locked.URL)
}

func (f *exporterFlags) client(url string) (source, error) {
	client, err := web.NewClient(url, f.httpConfig)
	if err != nil {
		return nil, err
	}
	return exporter{client}, nil
}

// explained adds what to do to an error of an exporter.
func explained(err error) error {
	refused, is := errors.AsType[*web.RefusedError](err)
	switch {
	case is && refused.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: give basic_auth in the file of --http.config.file", err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fmt.Errorf("%w: name the exporter with --url as its certificate does, and give the certificate's authority as ca_file under tls_config: in the file of --http.config.file", err)
	case errors.As(err, new(*net.OpError)):
		return fmt.Errorf("%w: give the URL at which it answers with --url", err)
	}
	return err
}

// file is the state's file.
type file struct{ *store.Store }

func (f file) events(_ context.Context, delivery store.Delivery) ([]store.Event, error) {
	return f.Events(store.EventQuery{Delivery: delivery})
}

func (f file) export(_ context.Context, w io.Writer) error { return f.Export(w) }

func (f file) backup(_ context.Context, path string) error { return f.BackupFile(path) }

func (f file) close() error { return f.Close() }

// exporter is one that serves.
type exporter struct{ *web.Client }

func (e exporter) events(ctx context.Context, delivery store.Delivery) ([]store.Event, error) {
	return e.Events(ctx, delivery)
}

func (e exporter) export(ctx context.Context, w io.Writer) error { return e.Export(ctx, w) }

func (e exporter) backup(ctx context.Context, path string) error {
	return store.SaveBackup(path, func(f *os.File) error { return e.Backup(ctx, f) })
}

func (exporter) close() error { return nil }
