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
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // for hosts and containers without it: entries may name timezones

	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/command"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/web"
	"github.com/quant-exporter/quant-exporter/schedule"
)

func main() {
	os.Exit(mainStatus(os.Args[1:], os.Stdout, os.Stderr))
}

// mainStatus is the program, down to its exit status.
func mainStatus(args []string, stdout, stderr *os.File) int {
	command.StampVersion(debug.ReadBuildInfo())
	process.KeepDescriptors()
	if err := process.AdoptStrays(); err != nil {
		fmt.Fprintf(stderr, "quant-exporter: %v: a tool's processes that leave their group will run on\n", err)
	}
	flags := command.NewFlags(stdout)
	name, err := flags.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "quant-exporter: %v (quant-exporter --help lists commands and flags)\n", err)
		return command.ExitError
	}
	status := command.ExitKept
	p, err := command.New(flags, stdout, stderr)
	if err == nil {
		status, err = do(p, name, flags.Serve)
	}
	if err != nil {
		p.Stderr.Clear()
		fmt.Fprintf(stderr, "quant-exporter: %s\n", text.Text(err.Error()))
		return command.ExitError
	}
	return status
}

// do runs the command with this name.
func do(p *command.Program, name string, f command.ServeFlags) (status int, err error) {
	if name == "serve" && !f.Check {
		ctx, stop := signalContext()
		defer stop()
		return command.ExitKept, serve(ctx, p, f)
	}
	ctx, stop := hangUpContext()
	defer stop()
	endHanging(ctx, p.Logger)
	switch {
	case f.Check:
		return command.ExitKept, p.Check(ctx)
	case name == "run":
		return p.Run(ctx)
	case name == "worker":
		return command.ExitKept, p.Worker(ctx)
	case name == "calibrate":
		return command.ExitKept, p.Calibrate(ctx)
	case name == "events":
		return command.ExitKept, p.Events(ctx)
	case name == "export":
		return command.ExitKept, p.Export(ctx)
	case name == "backup":
		return command.ExitKept, p.Backup(ctx)
	default:
		return command.ExitError, fmt.Errorf("the command %q is not wired: this is a defect, please report it", name)
	}
}

// maxScrapes in flight; a further one gets 503. Prometheus servers take one each.
const maxScrapes = 8

// serve is the program without a command: cycles when they are due, and HTTP. It is one
// straight line on purpose: each part is made before the parts that it is given to.
func serve(ctx context.Context, p *command.Program, f command.ServeFlags) (err error) {
	p.Logger.Info("starting", "version", version.Info(), "build", version.BuildContext(), "config", p.ConfigFile())
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP) // until the end: SIGHUP must never end the process
	mount, err := web.NewMount(f.ExternalURL, f.RoutePrefix)
	if err != nil {
		return err
	}
	if _, err := p.Prepare(ctx, false); err != nil {
		return err
	}
	state, err := p.OpenStore("stop it, or give this one a --storage.path of its own")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	bus := p.NewBus(state)
	workers := fleet.NewCoordinator(p.Place(), fleet.SecretsOf(os.Getenv), fleet.Times{}, p.Logger)
	cycleLog := cycle.NewLog(p.Logger.Handler())
	dispatcher := dispatch.New(state, cycleLog)
	scheduler := schedule.New(schedule.Options{
		Clock:  schedule.SystemClock{},
		Memory: state,
		Host:   p.Host.Name,
		Fire:   dispatcher.Due,
		Missed: dispatcher.Missed,
		Logger: p.Logger,
	})
	registry := collector.NewRegistry()
	registry.MustRegister(collector.New(collector.Sources{Store: state, Dispatcher: dispatcher, Scheduler: scheduler, Bus: bus}, a2a.Reasons()))
	collector.RegisterStorage(registry, state.Stats)
	if mount.External != nil {
		collector.RegisterExternalURL(registry, mount.External.String())
	}
	reload := &reloads{
		p: p, store: state, bus: bus, workers: workers, dispatcher: dispatcher, scheduler: scheduler, cycleLog: cycleLog,
		metrics: collector.NewReloads(registry),
	}
	handler := web.New(web.Options{
		Store:      state,
		Dispatcher: dispatcher,
		Scheduler:  scheduler,
		Bus:        bus,
		Exporter:   reload,
		Metrics:    collector.Handler(registry, maxScrapes, p.Logger),
		Mount:      mount,
		Flags:      web.Flags{Lifecycle: f.Lifecycle, AdminAPI: f.AdminAPI},
		Version:    version.Version,
		SpoolDir:   p.Config.Storage.Path,
		Logger:     p.Logger,
	})

	group, ctx := errgroup.WithContext(ctx)
	endHanging(ctx, p.Logger)
	listening := make(chan struct{})
	group.Go(func() error {
		return web.Serve(ctx, web.ServeOptions{
			Handler: handler, Flags: f.Web, Logger: p.Logger,
			Ready: func(addresses []net.Addr) {
				announce(state, f.Web, addresses, mount, p.Logger)
				close(listening)
			},
		})
	})
	group.Go(func() error {
		select {
		case <-listening:
		case <-ctx.Done(): // what cannot serve must not begin a cycle either
			return nil
		}
		if err := reload.start(ctx, p.Config); err != nil {
			return err
		}
		group.Go(func() error { scheduler.Run(ctx); return nil })
		group.Go(func() error { dispatcher.Run(ctx); return nil })
		group.Go(func() error { bus.Run(ctx); return nil })
		group.Go(func() error { workers.Run(ctx, dispatcher.Notify); return nil })
		reload.on(ctx, hangUp)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		p.Logger.Info("stopping", "cause", context.Cause(ctx))
		return nil
	})
	if err = group.Wait(); err == nil {
		p.Logger.Info("stopped")
	}
	return err
}

// announce lets commands on this host that find the state in use ask this process. If it
// fails, they need --url.
func announce(state *store.Store, flags *toolkit.FlagConfig, addresses []net.Addr, mount web.Mount, logger *slog.Logger) {
	url, err := web.LocalURL(flags, addresses, mount)
	if err == nil && url != "" {
		err = state.Announce(url)
	}
	if err != nil {
		logger.Warn("commands such as events and backup need --url to ask this exporter", "err", err)
	}
}

// endHanging ends the process when it is still there so long after the context has ended.
func endHanging(ctx context.Context, logger *slog.Logger) {
	command.StopAfter(ctx, command.StopLimit, func() {
		logger.Error("something hangs: ending without it, as a kill would; the next start tidies up", "waited", command.StopLimit)
		os.Exit(command.ExitError)
	})
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

// hangUpContext returns the context of a command in a terminal, which ends with the terminal unless
// it was started with nohup.
func hangUpContext() (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return signalContext()
	}
	return signalContext(syscall.SIGHUP)
}
