package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// maxScrapes in flight; a further one gets 503. Prometheus servers take one each.
const maxScrapes = 8

// serve is the program without a command: cycles when they are due, and HTTP.
func (p *program) serve(ctx context.Context, f serveFlags) (err error) {
	p.logger.Info("starting", "version", version.Info(), "build", version.BuildContext(), "config", p.flags.configFile)
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP) // to the end: it must never end the process
	if _, err := p.prepare(ctx, false); err != nil {
		return err
	}
	state, err := p.openStore("stop it, or give this one a --storage.path of its own")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	registry := collector.NewRegistry()
	collector.RegisterStorage(registry, state.Stats)
	e := p.newExporter(state, registry)
	handler, err := e.handler(f, registry)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	listening := make(chan struct{})
	group.Go(func() error {
		return web.Serve(ctx, web.ServeOptions{
			Handler: handler, Flags: f.web, Logger: p.logger,
			Ready: func([]net.Addr) { close(listening) },
		})
	})
	group.Go(func() error {
		select {
		case <-listening:
		case <-ctx.Done(): // what cannot serve must not begin a cycle either
			return nil
		}
		if err := e.start(ctx, p.config); err != nil {
			return err
		}
		group.Go(func() error { e.scheduler.Run(ctx); return nil })
		group.Go(func() error { e.dispatcher.Run(ctx); return nil })
		group.Go(func() error { e.bus.Run(ctx); return nil })
		e.reloadOn(ctx, hangUp)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		p.logger.Info("stopping", "cause", context.Cause(ctx))
		return nil
	})
	if err = group.Wait(); err == nil {
		p.logger.Info("stopped")
	}
	return err
}

// handler are the routes, and what is behind them.
func (e *exporter) handler(f serveFlags, registry *prometheus.Registry) (http.Handler, error) {
	mount, err := web.NewMount(f.externalURL, f.routePrefix)
	if err != nil {
		return nil, err
	}
	registry.MustRegister(e.collector)
	return web.New(web.Options{
		Store:      e.store,
		Dispatcher: e.dispatcher,
		Scheduler:  e.scheduler,
		Bus:        e.bus,
		Exporter:   e,
		Metrics:    collector.Handler(registry, maxScrapes, e.p.logger),
		Mount:      mount,
		Flags:      web.Flags{Lifecycle: f.lifecycle, AdminAPI: f.adminAPI},
		Version:    version.Version,
		SpoolDir:   e.p.config.Storage.Path,
		Logger:     e.p.logger,
	}), nil
}

// reloadOn reads the configuration again at each signal, until the context ends.
func (e *exporter) reloadOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			_ = e.Reload(ctx) // it has logged what is wrong
		}
	}
}
