package fleet

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

// written is a task as a coordinator writes it.
func written(t *testing.T) map[string]any {
	t.Helper()
	order := &Order{
		Cycle:  store.Cycle{Entry: "nightly", Model: "m", Class: "h100", Due: time.Now(), Ticket: "ours"},
		Engine: config.DefaultEngine(),
	}
	request := runner.Request{Model: model.Model{Name: "m"}, Targets: []string{"Q2_K"}, Settings: config.DefaultSettings()}
	text, err := json.Marshal(newTask(order, request, 1))
	require.NoError(t, err)
	var task map[string]any
	require.NoError(t, json.Unmarshal(text, &task))
	return task
}

// Whoever can write to Redis can give any task. What a configuration could not say, and what
// names files, programs or hosts, is refused, with the reason.
func TestHostileTasksAreRefused(t *testing.T) {
	engine := func(key string, value any) func(map[string]any) {
		return func(task map[string]any) { task["engine"].(map[string]any)[key] = value }
	}
	section := func(name, key string, value any) func(map[string]any) {
		return func(task map[string]any) {
			task["settings"].(map[string]any)[name].(map[string]any)[key] = value
		}
	}
	set := func(key string, value any) func(map[string]any) {
		return func(task map[string]any) { task[key] = value }
	}
	args := func(all ...string) []string { return all }
	for name, test := range map[string]struct {
		edit func(map[string]any)
		want string
	}{
		"as it is written":           {func(map[string]any) {}, ""},
		"another folder of tools":    {engine("dir", "/tmp/evil"), `unknown field "dir"`},
		"variables":                  {engine("env", map[string]string{"LD_PRELOAD": "/tmp/evil.so"}), `unknown field "env"`},
		"another matrix":             {engine("imatrix", "/etc/shadow"), `unknown field "imatrix"`},
		"no sandbox":                 {engine("sandbox", "off"), `unknown field "sandbox"`},
		"a program":                  {set("command", "rm -rf /"), `unknown field "command"`},
		"another model by an option": {engine("bench_args", args("-m", "x")), "the exporter names the model"},
		"a file as an argument":      {engine("bench_args", args("/etc/shadow")), "which may name a file"},
		"one above":                  {engine("quantize_args", args("--tensor-type", "../x")), "which may name a file"},
		"one of the home":            {engine("evaluate_args", args("~root")), "which may name a file"},
		"one of Windows":             {engine("quantize_args", args(`C:\x`)), "which may name a file"},
		"a URL":                      {engine("evaluate_args", args("--lora", "https://example.org")), "which may name a file"},
		"the network":                {engine("bench_args", args("--rpc", "example.org:1")), "uses the network"},
		"a download":                 {engine("evaluate_args", args("--model-url", "x")), "the task"},
		"another output":             {engine("bench_args", args("--output", "md")), "the exporter reads the tool's JSON"},
		"no time to end":             {engine("timeouts", map[string]any{"Quantize": "0s"}), "settings that cannot be used: timeouts"},
		"an impossible threshold":    {func(task map[string]any) { task["settings"].(map[string]any)["Threshold"] = 7 }, "settings that cannot be used: threshold"},
		"an error rate of nothing":   {section("Benchmark", "alpha", -1), "settings that cannot be used: benchmark"},
		"no cycle":                   {set("cycle", ""), "names no cycle"},
		"no token":                   {set("token", ""), "names no cycle"},
		"no attempt":                 {set("attempt", -1), "names no cycle"},
		"no model":                   {set("model", ""), "no model"},
		"no targets":                 {set("targets", []string{}), "no targets"},
		"targets that are none":      {set("targets", "Q2_K"), "cannot be read"},
		"of another version":         {set("version", 7), "another version"},
		"of no version":              {func(task map[string]any) { delete(task, "version") }, "another version"},
	} {
		t.Run(name, func(t *testing.T) {
			task := written(t)
			test.edit(task)
			text, err := json.Marshal(task)
			require.NoError(t, err)
			_, err = parseTask(text)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, test.want)
		})
	}
	for _, garbage := range []string{"", "null", "[]", "{", "7", "\x00\xff", `{"version":1e999}`, strings.Repeat("[", 1<<20)} {
		_, err := parseTask([]byte(garbage))
		assert.Error(t, err, "%.20q", garbage)
	}
}

func TestRecipesOfATaskNameNoFiles(t *testing.T) {
	recipe := config.Recipe{Name: "mix", Format: "Q4_K_M", Args: []string{"--tensor-type", `blk\.0\.ffn_down=q6_k`}}
	task := Task{Cycle: "c", Token: "t", Attempt: 1, Model: "m", Targets: []string{"mix"}, Settings: config.DefaultSettings()}
	task.Engine.Timeouts = config.DefaultEngine().Timeouts
	task.Settings.Recipes = config.Recipes{recipe}
	task.Version = taskVersion
	text, err := json.Marshal(task)
	require.NoError(t, err)
	read, err := parseTask(text)
	require.NoError(t, err)
	assert.Equal(t, task.Settings.Recipes, read.Settings.Recipes)

	for name, change := range map[string]func(*config.Recipe){
		"a matrix":           func(r *config.Recipe) { r.Imatrix = "matrix.gguf" },
		"a matrix, by args":  func(r *config.Recipe) { r.Args = []string{"--imatrix", "matrix.gguf"} },
		"types of tensors":   func(r *config.Recipe) { r.Args = []string{"--tensor-type-file", "/etc/passwd"} },
		"the name of a file": func(r *config.Recipe) { r.Name = "../mix" },
		"nothing to do":      func(r *config.Recipe) { r.Args = nil },
	} {
		changed := recipe
		change(&changed)
		task.Settings.Recipes = config.Recipes{changed}
		assert.Error(t, task.check(), name)
	}
}

// What workers drop, as a worker of another version does, is given again at growing intervals.
func TestTasksThatAreDroppedAreGivenMoreRarely(t *testing.T) {
	f := &following{Coordinator: &Coordinator{times: Times{}.withDefaults()}}
	assert.Equal(t, 10*time.Second, f.lookAfter())
	f.dropped = 3
	assert.Equal(t, 80*time.Second, f.lookAfter())
	f.dropped = 100
	assert.Equal(t, 640*time.Second, f.lookAfter())
}
