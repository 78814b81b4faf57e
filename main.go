// Command quant-exporter finds out, on the host it runs on, whether quantized copies
// of GGUF models are still worth serving.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for hosts and containers without it: entries may name timezones

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/web"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// Exit statuses of run, a contract; the other commands know the first two.
const (
	exitKept         = 0
	exitError        = 1
	exitRejected     = 3
	exitInconclusive = 4
	exitFailed       = 5
)

func main() {
	os.Exit(mainStatus(os.Args[1:], os.Stdout, os.Stderr))
}

// mainStatus is the program, down to its exit status.
func mainStatus(args []string, stdout, stderr *os.File) int {
	flags := newFlags(stdout)
	command, err := flags.app.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "quant-exporter: %v (quant-exporter --help lists commands and flags)\n", err)
		return exitError
	}
	status := exitKept
	p, err := flags.program(stdout, stderr)
	if err == nil {
		status, err = p.command(command, flags)
	}
	if err != nil {
		p.progress.Clear()
		fmt.Fprintf(stderr, "quant-exporter: %s\n", text.Text(err.Error()))
		return exitError
	}
	return status
}

// command runs the command by this name.
func (p *program) command(name string, f *flags) (status int, err error) {
	if f.serve.check {
		ctx, stop := hangUpContext()
		defer stop()
		return exitKept, p.check(ctx)
	}
	switch name {
	case f.serve.command.FullCommand():
		ctx, stop := signalContext()
		defer stop()
		return exitKept, p.serve(ctx, f.serve)
	case f.run.command.FullCommand():
		ctx, stop := hangUpContext()
		defer stop()
		return p.run(ctx, f.run)
	case f.calibrate.command.FullCommand():
		ctx, stop := hangUpContext()
		defer stop()
		return exitKept, p.calibrate(ctx, f.calibrate)
	case f.events.command.FullCommand():
		return exitKept, p.events(f.events)
	case f.export.FullCommand():
		return exitKept, p.export()
	case f.backup.command.FullCommand():
		return exitKept, p.backup(f.backup.file)
	default:
		return exitError, fmt.Errorf("the command %q is not wired: this is a defect, please report it", name)
	}
}

// program is what the commands share: the configuration with the flags applied, and
// where to write.
type program struct {
	flags    *flags
	config   *config.Config
	host     *host.Host
	stdout   *os.File
	progress *report.Progress
	logger   *slog.Logger
}

// newBus makes the bus that the events of an outbox are delivered to. Its secrets come from
// the environment.
func (p *program) newBus(outbox a2a.Outbox) *a2a.Bus {
	return a2a.NewBus(outbox, a2a.Secrets{Username: os.Getenv("A2A_USERNAME"), Password: os.Getenv("A2A_PASSWORD")}, p.logger)
}

func (f *flags) program(stdout, stderr *os.File) (*program, error) {
	p := &program{
		flags:    f,
		stdout:   stdout,
		progress: report.NewProgress(stderr, int(stderr.Fd())),
	}
	f.log.Writer = p.progress
	p.logger = promslog.New(f.log)
	if f.run.verbose {
		if err := f.log.Level.Set("debug"); err != nil {
			return p, err
		}
	}
	var err error
	if p.config, err = f.loadConfig(); err != nil {
		return p, err
	}
	p.host = host.Read()
	return p, nil
}

// maxScrapes in flight; a further one gets 503. Prometheus servers take one each.
const maxScrapes = 8

// serve is the program without a command: cycles when they are due, and HTTP. It is one
// straight line on purpose: each part is made before the parts that it is given to.
func (p *program) serve(ctx context.Context, f serveFlags) (err error) {
	p.logger.Info("starting", "version", version.Info(), "build", version.BuildContext(), "config", p.flags.configFile)
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP) // to the end: it must never end the process
	mount, err := web.NewMount(f.externalURL, f.routePrefix)
	if err != nil {
		return err
	}
	if _, err := p.prepare(ctx, false); err != nil {
		return err
	}
	state, err := p.openStore("stop it, or give this one a --storage.path of its own")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	bus := p.newBus(state)
	cycleLog := cycle.NewLog(p.logger.Handler())
	dispatcher := dispatch.New(state, cycleLog)
	scheduler := schedule.New(schedule.Options{
		Clock:  schedule.SystemClock{},
		Memory: state,
		Host:   p.host.Name,
		Fire:   dispatcher.Due,
		Missed: dispatcher.Missed,
		Logger: p.logger,
	})
	registry := collector.NewRegistry()
	registry.MustRegister(collector.New(collector.Sources{Store: state, Dispatcher: dispatcher, Scheduler: scheduler, Bus: bus}, a2a.Reasons()))
	collector.RegisterStorage(registry, state.Stats)
	reload := &reloads{
		p: p, store: state, bus: bus, dispatcher: dispatcher, scheduler: scheduler, cycleLog: cycleLog,
		metrics: collector.NewReloads(registry),
	}
	handler := web.New(web.Options{
		Store:      state,
		Dispatcher: dispatcher,
		Scheduler:  scheduler,
		Bus:        bus,
		Exporter:   reload,
		Metrics:    collector.Handler(registry, maxScrapes, p.logger),
		Mount:      mount,
		Flags:      web.Flags{Lifecycle: f.lifecycle, AdminAPI: f.adminAPI},
		Version:    version.Version,
		SpoolDir:   p.config.Storage.Path,
		Logger:     p.logger,
	})

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
		if err := reload.start(ctx, p.config); err != nil {
			return err
		}
		group.Go(func() error { scheduler.Run(ctx); return nil })
		group.Go(func() error { dispatcher.Run(ctx); return nil })
		group.Go(func() error { bus.Run(ctx); return nil })
		reload.on(ctx, hangUp)
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

// signalContext is cancelled by the first signal that asks the process to end; the
// second one ends it at once, as it would without us.
func signalContext(more ...os.Signal) (context.Context, context.CancelFunc) {
	signaled, stop := signal.NotifyContext(context.Background(), append(more, syscall.SIGINT, syscall.SIGTERM)...)
	ctx, cancel := context.WithCancelCause(context.Background())
	context.AfterFunc(signaled, func() {
		stop() // before anybody learns of the first signal, and sends the second
		cancel(context.Cause(signaled))
	})
	return ctx, stop
}

// hangUpContext is the context of a command in a terminal, which ends with the terminal unless
// it was started with nohup.
func hangUpContext() (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return signalContext()
	}
	return signalContext(syscall.SIGHUP)
}
