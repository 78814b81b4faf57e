package fleet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/llamacpp"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// taskType is what asynq calls a cycle.
const taskType = "quant:cycle"

// taskVersion is the version of Task. A worker takes tasks of its own version only.
const taskVersion = 1

// Task is what a worker needs to know of a cycle, beside what its own configuration says.
type Task struct {
	Version int    `json:"version"`
	Cycle   string `json:"cycle"` // see cycleName
	Token   string `json:"token"`
	Attempt int    `json:"attempt"`
	Class   string `json:"class"`

	Entry   string    `json:"entry"`
	Due     time.Time `json:"due"`
	Model   string    `json:"model"`            // its name in the model folder
	Bytes   int64     `json:"bytes"`            // of its files
	SHA256  string    `json:"sha256,omitempty"` // of its file; "" where the coordinator has not read it
	Targets []string  `json:"targets"`

	Settings   config.Settings            `json:"settings"`
	Requantize bool                       `json:"requantize"`
	Engine     TaskEngine                 `json:"engine"`
	Standing   map[string]verdict.Outcome `json:"standing"` // by target
	Chosen     string                     `json:"chosen,omitempty"`
	OrderSeed  uint64                     `json:"order_seed"`
	// AskFresh has the worker say what the cycle depends on, and wait for which targets need
	// not be decided, before it begins.
	AskFresh bool `json:"ask_fresh,omitempty"`
}

// TaskEngine is what an entry says of llama.cpp's tools. Where they are, their environment and
// files are each worker's own.
type TaskEngine struct {
	BenchArgs    []string        `json:"bench_args,omitempty"`
	QuantizeArgs []string        `json:"quantize_args,omitempty"`
	EvaluateArgs []string        `json:"evaluate_args,omitempty"`
	Threads      int             `json:"threads,omitempty"`
	Timeouts     config.Timeouts `json:"timeouts"`
}

// Over returns the worker's own engine, with what the task says.
func (e TaskEngine) Over(own config.Engine) config.Engine {
	own.BenchArgs, own.QuantizeArgs, own.EvaluateArgs = e.BenchArgs, e.QuantizeArgs, e.EvaluateArgs
	own.Timeouts = e.Timeouts
	if e.Threads > 0 {
		own.Threads = e.Threads
	}
	return own
}

// cycleName names a cycle by what makes two the same. It has no braces, and is safe in a key.
func cycleName(c *store.Cycle) string {
	return strings.Join([]string{
		url.QueryEscape(c.Entry), strconv.FormatInt(c.Due.UnixMilli(), 10), c.Class, url.QueryEscape(c.Model),
	}, "/")
}

// taskID names an attempt of a cycle to asynq.
func taskID(cycle string, attempt int) string { return cycle + "/" + strconv.Itoa(attempt) }

// newTask makes the task of an order. Its settings are without files of this host.
func newTask(o *Order, req runner.Request, attempt int) Task {
	t := Task{
		Version: taskVersion, Cycle: cycleName(&o.Cycle), Token: o.Cycle.Ticket, Attempt: attempt, Class: o.Cycle.Class,
		Entry: o.Cycle.Entry, Due: o.Cycle.Due, Model: req.Model.Name, Bytes: req.Model.Size, SHA256: o.SHA256, Targets: req.Targets,
		Settings: req.Settings, Requantize: req.Requantize, Standing: map[string]verdict.Outcome{}, Chosen: req.Chosen, OrderSeed: req.OrderSeed,
		Engine: TaskEngine{
			BenchArgs: o.Engine.BenchArgs, QuantizeArgs: o.Engine.QuantizeArgs, EvaluateArgs: o.Engine.EvaluateArgs,
			Threads: o.Engine.Threads, Timeouts: o.Engine.Timeouts,
		},
	}
	t.AskFresh = o.Fresh != nil
	t.Settings.Publish = config.DefaultPublish()
	if req.Previous != nil {
		for _, target := range req.Targets {
			t.Standing[target] = req.Previous(target)
		}
	}
	return t
}

// errVersion says that a task is of another version of this program.
var errVersion = errors.New("the task is of another version of quant-exporter: run the same version on the coordinator and its workers")

// parseTask reads a task, and refuses what a configuration file could not say, and files.
func parseTask(data []byte) (Task, error) {
	var version struct{ Version int }
	if err := json.Unmarshal(data, &version); err != nil {
		return Task{}, fmt.Errorf("the task cannot be read: %w", err)
	}
	if version.Version != taskVersion {
		return Task{}, errVersion
	}
	var t Task
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&t); err != nil {
		return Task{}, fmt.Errorf("the task cannot be read: %w", err)
	}
	return t, t.check()
}

// check returns an error if the task says anything that a configuration could not, or names a
// file of the worker's.
func (t *Task) check() error {
	if t.Cycle == "" || t.Token == "" || t.Attempt < 1 || t.Model == "" || len(t.Targets) == 0 {
		return errors.New("the task names no cycle, no model or no targets")
	}
	engine := config.DefaultEngine()
	problems := t.Settings.Validate()
	for _, problem := range append(problems, append(t.Engine.Over(engine).Validate(), llamacpp.Validate(t.Engine.Over(engine))...)...) {
		return fmt.Errorf("the task has settings that cannot be used: %s: %w", problem.Path, problem.Err)
	}
	for _, recipe := range t.Settings.Recipes {
		for _, problem := range recipe.Validate() {
			return fmt.Errorf("the task has a recipe that cannot be used: %s: %w", problem.Path, problem.Err)
		}
		if recipe.Imatrix != "" {
			return fmt.Errorf("the recipe %q of the task names the importance matrix %q: workers refuse files of others", recipe.Name, recipe.Imatrix)
		}
		if err := llamacpp.CheckQuantizeArgs(recipe.Args); err != nil {
			return fmt.Errorf("the task has a recipe that cannot be used: args: %w", err)
		}
		if err := config.CheckRemoteQuantizeArgs(recipe.Args); err != nil {
			return fmt.Errorf("the recipe %q of the task %w", recipe.Name, err)
		}
	}
	if err := cmp.Or(
		config.CheckRemoteArgs(t.Engine.BenchArgs), config.CheckRemoteArgs(t.Engine.EvaluateArgs), config.CheckRemoteQuantizeArgs(t.Engine.QuantizeArgs),
	); err != nil {
		return fmt.Errorf("the engine of the task %w", err)
	}
	return nil
}
