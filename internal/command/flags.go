package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

const (
	defaultConfigFile = "quant-exporter.yml"
	defaultAddress    = ":10180"
)

// Flags are the command line, as kingpin parses it.
type Flags struct {
	App         *kingpin.Application
	ConfigFile  string
	modelDir    string
	llamaCppDir string
	workDir     string
	storagePath string
	hostLock    string
	command     string // as parsed
	log         *promslog.Config
	logFormat   bool // was given
	threshold   threshold
	Serve       ServeFlags
	run         runFlags
	calibrate   calibrateFlags
	events      eventsFlags
	worker      workerFlags
	backup      string // file
	exporter    exporterFlags
}

// threshold as it was given; the environment serves every command.
type threshold struct {
	text   string
	byFlag bool // else by QUANT_THRESHOLD
}

func (t *threshold) flag(command *kingpin.CmdClause) {
	command.Flag("threshold", "Reject a copy whose throughput drops by this ratio or more. Default: "+strconv.FormatFloat(config.Default().Threshold, 'g', -1, 64)+".").
		PlaceHolder("RATIO").Envar("QUANT_THRESHOLD").IsSetByUser(&t.byFlag).StringVar(&t.text)
}

// ServeFlags are the flags of the server. As serve is what the program does without a
// command, they may be given to the program itself, as with other exporters.
type ServeFlags struct {
	Check       bool // the configuration, instead of serving
	Web         *web.FlagConfig
	ExternalURL string
	RoutePrefix string
	Lifecycle   bool
	AdminAPI    bool
}

// chooseNone is --choose none.
const chooseNone = "none"

type runFlags struct {
	entry    string
	models   []string
	targets  []string
	against  string
	baseline string
	choose   string // "" is not given
	dryRun   bool
	noRecord bool
	// allowRequantize is as in config.Entry.
	allowRequantize bool
	verbose         bool
	output          string
	evidence        bool
	noWait          bool
}

type calibrateFlags struct {
	model   string
	rounds  int
	threads []int
	output  string
	noWait  bool
}

type eventsFlags struct {
	delivery string
	output   string
}

// exporterFlags say how to ask an exporter that serves.
type exporterFlags struct{ url, httpConfig string }

// NewFlags declares all commands and flags; help and version are printed to stdout.
func NewFlags(stdout io.Writer) *Flags {
	f := &Flags{App: kingpin.New("quant-exporter", "Finds out, by measuring, whether quantized copies of GGUF models are still worth serving on this host."), log: new(promslog.Config)}
	f.App.UsageWriter(plainNegatives{stdout})
	f.App.PreAction(f.before)
	f.App.HelpFlag.Short('h').Help("Show this help; after a command, that command's.")
	f.App.Version(version.Print("quant-exporter"))
	f.App.VersionFlag.Short('V').Help("Show the version.")
	defaults := config.Default()
	f.App.Flag("config.file", "Configuration file; the default one need not exist.").Default(defaultConfigFile).StringVar(&f.ConfigFile)
	f.App.Flag("model-dir", "Folder that is searched, recursively, for *.gguf files.").PlaceHolder("FOLDER").Envar("MODEL_DIR").StringVar(&f.modelDir)
	f.App.Flag("llamacpp.dir", "Folder of llama.cpp's tools: llama-quantize, llama-bench, llama-server, llama-perplexity. Default: PATH.").PlaceHolder("FOLDER").Envar("LLAMA_CPP_DIR").StringVar(&f.llamaCppDir)
	f.App.Flag("work.dir", "Folder that cycles work in; it needs room for all copies of a model. Default: "+defaults.Work.Dir+".").PlaceHolder("FOLDER").Envar("QUANT_WORK_DIR").StringVar(&f.workDir)
	f.App.Flag("storage.path", "Folder of the state: decisions, counters, history and events. Default: "+defaults.Storage.Path+".").PlaceHolder("FOLDER").Envar("QUANT_STORAGE_PATH").StringVar(&f.storagePath)
	f.App.Flag("host.lock", "Lock file by which measurements on this host wait for each other. Default: "+disk.DefaultLockPath()+".").PlaceHolder("FILE").Envar("QUANT_HOST_LOCK").StringVar(&f.hostLock)
	f.App.Flag("config.check", "Check the configuration, find the models, print what is due when, and exit.").BoolVar(&f.Serve.Check)
	promslogflag.AddFlags(f.App, f.log)
	f.App.GetFlag("log.format").IsSetByUser(&f.logFormat)

	serve := f.App.Command("serve", "Run cycles when the schedule says so, and serve pages and metrics. This is what quant-exporter does without a command.").Default()
	f.Serve.flags(serve)
	f.threshold.flag(serve)
	f.run.flags(f.App, &f.threshold)
	f.calibrate.flags(f.App, &f.threshold)
	f.worker.flags(f.App)
	f.exporter.flags(f.events.flags(f.App))
	f.exporter.flags(f.App.Command("export", "Write the whole state to standard output, as JSON lines."))
	backup := f.App.Command("backup", "Copy the state to a file; the copy is consistent.")
	backup.Arg("file", "File to write; it must not exist.").Required().StringVar(&f.backup)
	f.exporter.flags(backup)
	return f
}

func (f *ServeFlags) flags(serve *kingpin.CmdClause) {
	f.Web = kingpinflag.AddFlags(serve, defaultAddress)
	serve.Flag("web.external-url", "URL under which people reach the server behind a reverse proxy; links are made from it.").PlaceHolder("URL").StringVar(&f.ExternalURL)
	serve.Flag("web.route-prefix", "Path under which everything is served. Default: the path of --web.external-url.").PlaceHolder("PATH").StringVar(&f.RoutePrefix)
	serve.Flag("web.enable-lifecycle", "Let POST /-/reload reload the configuration, as SIGHUP does.").BoolVar(&f.Lifecycle)
	serve.Flag("web.enable-admin-api", "Let POST requests under /api/v1/ start and cancel runs, and make backups.").BoolVar(&f.AdminAPI)
}

func (f *runFlags) flags(app *kingpin.Application, t *threshold) {
	defaults := config.Default()
	entry := defaults.NewEntry(0, false)
	run := app.Command("run", "Run cycles now: quantize models, measure the copies against the originals, and decide.")
	run.Flag("entry", "Take models, targets and settings from this entry of the schedule.").PlaceHolder("NAME").StringVar(&f.entry)
	run.Flag("model", "Model to take: a name, a glob or a path, or, behind a !, to leave out; repeatable. Default: every model in the model folder.").StringsVar(&f.models)
	run.Flag("target", "Format to quantize to, as llama-quantize names it; repeatable. Default: "+strings.Join(entry.Targets, ", ")+".").PlaceHolder("FORMAT").StringsVar(&f.targets)
	run.Flag("against", "Compare one model with this existing file, a name or a path, instead of making copies.").PlaceHolder("FILE").StringVar(&f.against)
	run.Flag("baseline", "Compare copies with the model in this format instead of the model as it is.").PlaceHolder("FORMAT").StringVar(&f.baseline)
	run.Flag("choose", "Choose one of the formats that are kept: smallest, fastest or best-quality; none measures every target. Default: as configured.").
		PlaceHolder("RULE").EnumVar(&f.choose, chooseNone, string(choice.Smallest), string(choice.Fastest), string(choice.BestQuality))
	t.flag(run)
	run.Flag("dry-run", "Estimate sizes and drops from the files' headers, without starting any tool.").Envar("DRY_RUN").BoolVar(&f.dryRun)
	run.Flag("allow-requantize", "Also take models that are quantized already; quality suffers.").BoolVar(&f.allowRequantize)
	run.Flag("no-record", "Store nothing and raise no event.").BoolVar(&f.noRecord)
	run.Flag("verbose", "Log what is done, and which files are passed over and why.").BoolVar(&f.verbose)
	run.Flag("output", "Format of the output: text (a table) or json (one object per line).").Default("text").EnumVar(&f.output, "text", "json")
	run.Flag("evidence", "With --output json, add everything that the decision rests on.").BoolVar(&f.evidence)
	run.Flag("no-wait", "Fail at once if another measurement is running on this host, instead of waiting for it.").BoolVar(&f.noWait)
}

func (f *calibrateFlags) flags(app *kingpin.Application, t *threshold) {
	cal := app.Command("calibrate", "Measure a model against itself, and say how small a drop this host can detect.")
	cal.Arg("model", "Model to measure: a name, a path, or a glob that matches one model.").Required().StringVar(&f.model)
	cal.Flag("rounds", "Rounds for each number of threads, 4 to 100.").Default("8").IntVar(&f.rounds)
	cal.Flag("threads", "Number of threads to try; repeatable. Default: one, half of the cores, all but one, all.").PlaceHolder("N").IntsVar(&f.threads)
	t.flag(cal)
	cal.Flag("output", "Format of the output: text (a table) or json (one object).").Default("text").EnumVar(&f.output, "text", "json")
	cal.Flag("no-wait", "Fail at once if another measurement is running on this host, instead of waiting for it.").BoolVar(&f.noWait)
}

func (f *eventsFlags) flags(app *kingpin.Application) *kingpin.CmdClause {
	events := app.Command("events", "List the stored events, oldest first, whether they were delivered, and why a copy was rejected.")
	var deliveries []string
	for _, d := range store.Deliveries() {
		deliveries = append(deliveries, string(d))
	}
	events.Flag("delivery", "Only events that are held, pending, delivered or superseded.").EnumVar(&f.delivery, deliveries...)
	events.Flag("output", "Format of the output: text (a table) or json (one object per line).").Default("text").EnumVar(&f.output, "text", "json")
	return events
}

func (f *exporterFlags) flags(command *kingpin.CmdClause) {
	command.Flag("url", "Ask the exporter at this URL. Default: the one that serves the state in --storage.path; where none does, its file is read.").
		PlaceHolder("URL").StringVar(&f.url)
	command.Flag("http.config.file", "File with the credentials and TLS settings to ask with, like http_config of Prometheus.").PlaceHolder("FILE").StringVar(&f.httpConfig)
}

// loadConfig reads the configuration file, which has to exist only if it was named, and
// applies the flags.
func (f *Flags) loadConfig() (*config.Config, error) {
	c, err := config.Load(f.ConfigFile, config.Checks{Engine: llamacpp.Validate, QuantizeArgs: llamacpp.CheckQuantizeArgs, A2A: a2a.Validate, Fleet: redisconn.ValidateFleet})
	if errors.Is(err, fs.ErrNotExist) && f.ConfigFile == defaultConfigFile {
		defaults := config.Default()
		c, err = &defaults, nil
	}
	if err != nil {
		return nil, err
	}
	override(&c.Models.Dir, f.modelDir)
	if err := c.Apart(); err != nil {
		return nil, fmt.Errorf("--model-dir: %w", err)
	}
	override(&c.Engine.Dir, f.llamaCppDir)
	override(&c.Work.Dir, f.workDir)
	override(&c.Storage.Path, f.storagePath)
	for i := range c.Schedule {
		override(&c.Schedule[i].Engine.Dir, f.llamaCppDir)
	}
	if t := f.threshold; t.text != "" || t.byFlag {
		source := "QUANT_THRESHOLD"
		if t.byFlag {
			source = "--threshold"
		}
		if c.Threshold, err = config.ParseThreshold(source, t.text); err != nil {
			return nil, err
		}
		for i := range c.Schedule {
			c.Schedule[i].Threshold = c.Threshold
		}
	}
	return c, nil
}

func override(key *string, flag string) {
	if flag != "" {
		*key = flag
	}
}
