package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// maxScrapes in flight; a further one gets 503. Prometheus servers take one each, and
// scrapeTimeout is longer than they usually wait.
const (
	maxScrapes    = 8
	scrapeTimeout = 15 * time.Second
)

// serve is the program without a command: cycles when they are due, and HTTP.
func (p *program) serve(ctx context.Context, f serveFlags) (err error) {
	p.logger.Info("starting", "version", version.Info(), "build", version.BuildContext(), "config", p.flags.configFile)
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP) // to the end: it must never end the process
	if err := p.prepare(ctx, false); err != nil {
		return err
	}
	registry := collector.NewRegistry()
	var state *store.Store
	storage := collector.NewStorage(registry, func() (size, free int64) {
		stats := state.Stats()
		return stats.FileBytes, stats.FreeBytes
	})
	if state, err = p.openStore("stop it, or give this one a --storage.path of its own", storage.WriteFailed); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
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
	external, prefix, err := web.Mount(f.externalURL, f.routePrefix)
	if err != nil {
		return nil, err
	}
	registry.MustRegister(e.collector)
	return web.New(web.Options{
		RoutePrefix: prefix,
		ExternalURL: external,
		Version:     version.Version,
		Metrics:     e.onceReady(collector.Handler(registry, maxScrapes, e.p.logger)),
		Ready:       e.isReady,
		Config:      e.shownConfig,
		Reload:      e.reload,
		ReloadError: e.lastReload,
		Lifecycle:   f.lifecycle,
		AdminAPI:    f.adminAPI,
		State:       e.store.State,
		Plan:        e.dispatcher.Plan,
		Status:      e.dispatcher.Status,
		Bus:         e.bus.Status,
		Store:       e.store,
		Watch:       e.dispatcher.Watch,
		Run:         e.dispatcher.RunNow,
		Cancel:      e.dispatcher.Cancel,
		CycleLog:    e.dispatcher.CycleLog,
		SpoolDir:    e.p.config.Storage.Path,
		Logger:      e.p.logger,
	}), nil
}

// onceReady lets a scrape fail until the models are found: one without their series would
// look as if they had left the schedule.
func (e *exporter) onceReady(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := e.isReady(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		// Nobody who reads slowly shall keep others from scraping.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTimeout))
		h.ServeHTTP(w, r)
	})
}

// reloadOn reads the configuration again at each signal, until the context ends.
func (e *exporter) reloadOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			_ = e.reload(ctx) // it has logged what is wrong
		}
	}
}
