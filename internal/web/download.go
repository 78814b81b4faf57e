package web

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

const (
	// maxDownloads bounds how many exports and backups are made or sent at once, and so
	// the disk space they take meanwhile.
	maxDownloads = 1
	// downloadTimeout is how long a client may take to fetch one.
	downloadTimeout = 10 * time.Minute
	// spoolCopies is how many times the size of the state's file a download may take: of a
	// backup the store makes a copy of its own first, and an export has the logs unpacked.
	spoolCopies = 2
	// spoolMargin is how many bytes a download leaves free: cycles go on meanwhile, and
	// results are to be kept.
	spoolMargin = 64 << 20
)

// export is a GET, which sameSite lets pass from everywhere. A page of another site could not
// read the answer, but could have it made again and again, so it is refused; so is a page of
// the same site, which includes other ports of this host.
func (s *server) export(w http.ResponseWriter, r *http.Request) {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin": // another program, somebody who typed the address, our own page
	default:
		refuse(w, r, errorForbidden, "a page of another site asked for this: open the exporter's own page, or use a command-line client")
		return
	}
	s.download(w, r, "application/x-ndjson", "ndjson", s.Store.Export)
}

func (s *server) backup(w http.ResponseWriter, r *http.Request) {
	s.download(w, r, "application/octet-stream", "db", func(to io.Writer) error {
		_, err := s.Store.Backup(to)
		return err
	})
}

// download sends what write writes, as a file. It writes everything to disk before it sends
// the first byte. So the store's transaction, during which its file can only grow, does not
// last as long as the client takes, and a failure ends in an error instead of half a file.
func (s *server) download(w http.ResponseWriter, r *http.Request, contentType, suffix string, write func(io.Writer) error) {
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	default:
		w.Header().Set("Retry-After", "10")
		refuse(w, r, errorUnavailable, "an export or a backup is under way already: try again when it is done")
		return
	}
	if err := s.room(); err != nil {
		s.Logger.Error("a download was refused", "path", r.URL.Path, "err", err)
		refuse(w, r, errorUnavailable, err.Error())
		return
	}
	file, size, err := s.spool(write)
	if err != nil {
		s.Logger.Error("a download failed", "path", r.URL.Path, "err", err)
		refuse(w, r, errorInternal, err.Error())
		return
	}
	defer file.Close()

	name := "quant-exporter-" + time.Now().UTC().Format("20060102T150405Z") + "." + suffix
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.Header().Set("Cache-Control", "no-store")
	// The server's own limit is meant for pages. Where none can be set there is none.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTimeout))
	if _, err := io.Copy(w, file); err != nil {
		s.Logger.Warn("a client did not fetch all of a download", "path", r.URL.Path, "err", err)
	}
}

// room returns an error when there is not enough disk space for a download.
func (s *server) room() error {
	dir := cmp.Or(s.SpoolDir, os.TempDir())
	free, err := disk.Free(dir)
	if err != nil {
		return nil //nolint:nilerr // making the file there fails, too, and says why
	}
	if needed := spoolCopies*s.Store.Stats().FileBytes + spoolMargin; free < needed {
		return fmt.Errorf("%s has %d MiB free, and this may take %d MiB meanwhile: make room there and try again", dir, free>>20, needed>>20)
	}
	return nil
}

// spool returns a file with what write wrote, positioned at its beginning. Nothing is left
// of the file when it is closed, or when the process is killed.
func (s *server) spool(write func(io.Writer) error) (file *os.File, size int64, err error) {
	if file, err = os.CreateTemp(s.SpoolDir, ".quant-exporter-download-*"); err != nil {
		return nil, 0, fmt.Errorf("making a temporary file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	if err = os.Remove(file.Name()); err != nil { // the open file stays, without a name
		return nil, 0, fmt.Errorf("hiding a temporary file: %w", err)
	}
	buffer := bufio.NewWriterSize(file, 64<<10)
	if err = write(buffer); err == nil {
		err = buffer.Flush()
	}
	if err != nil {
		return nil, 0, err
	}
	if size, err = file.Seek(0, io.SeekCurrent); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading a temporary file: %w", err)
	}
	return file, size, nil
}
