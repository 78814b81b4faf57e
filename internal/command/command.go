// Package command holds the commands that people type, and what they print: run,
// calibrate, --config.check, events, export and backup. [Program] is what these commands
// and the serving program share: the configuration with the flags applied, the host, and
// where to write.
//
// A command returns an error, which is printed after the program's name, if it cannot do what
// it is for; what cycles find becomes the exit status.
package command

import (
	"log/slog"
	"os"

	"github.com/prometheus/common/promslog"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/report"
)

// Exit statuses of run, a contract; the other commands use the first two.
const (
	ExitKept         = 0
	ExitError        = 1
	ExitRejected     = 3
	ExitInconclusive = 4
	ExitFailed       = 5
)

// Program is what the commands share. One goroutine uses it.
type Program struct {
	Config *config.Config // with the flags applied
	Host   *host.Host
	Stderr *report.Progress // with a line of progress; the log goes through it
	Logger *slog.Logger
	flags  *Flags
	stdout *os.File
}

// New reads the configuration that the flags name. The Program that it returns beside an
// error can still write to standard error.
func New(f *Flags, stdout, stderr *os.File) (*Program, error) {
	p := &Program{flags: f, stdout: stdout, Stderr: report.NewProgress(stderr, int(stderr.Fd()))}
	f.log.Writer = p.Stderr
	p.Logger = promslog.New(f.log)
	switch {
	case f.run.verbose && !f.logFormat:
		p.Logger = slog.New(report.NewLog(p.Stderr, slog.LevelDebug))
	case f.run.verbose:
		if err := f.log.Level.Set("debug"); err != nil {
			return p, err
		}
	case (f.command != "serve" && f.command != "worker" || f.Serve.Check) && !f.logFormat: // for whoever typed it
		p.Logger = slog.New(report.NewLog(p.Stderr, f.log.Level))
	}
	var err error
	if p.Config, err = p.LoadConfig(); err != nil {
		return p, err
	}
	if names := llamacpp.Withheld(os.Environ()); len(names) > 0 {
		p.Logger.Warn("these environment variables do not reach llama.cpp's tools; use bench_args, quantize_args, evaluate_args or env under engine:", "names", names)
	}
	p.Host = host.Read()
	return p, nil
}

// ConfigFile returns the path of the configuration file, as it was given.
func (p *Program) ConfigFile() string { return p.flags.ConfigFile }

// LoadConfig reads the configuration file again, and applies the flags to it.
func (p *Program) LoadConfig() (*config.Config, error) { return p.flags.loadConfig() }

// NewBus makes the bus that the events of an outbox are delivered to. Its secrets come from
// the environment.
func (p *Program) NewBus(outbox a2a.Outbox) *a2a.Bus {
	return a2a.NewBus(outbox, a2a.SecretsOf(os.Getenv), p.Logger)
}
