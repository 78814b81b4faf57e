// Command quant-exporter finds out, on the host it runs on, whether quantized copies
// of GGUF models are still worth serving.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for hosts and containers without it: entries may name timezones

	"github.com/prometheus/common/promslog"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/report"
	"github.com/quant-exporter/quant-exporter/internal/text"
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

// hangUpContext is that of a command in a terminal, which ends with it, unless it was
// started with nohup.
func hangUpContext() (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return signalContext()
	}
	return signalContext(syscall.SIGHUP)
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
