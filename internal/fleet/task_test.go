package fleet

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestArgumentsThatNameAFileOrAHostAreRefused(t *testing.T) {
	for args, refused := range map[string]bool{
		"-fa 1 -ngl 99":                false,
		"-ts 3/1,1/1":                  false,
		"--tensor-split=0.5/0.5":       false,
		"-dev CUDA0/CUDA1":             false,
		"--device=CUDA0/CUDA1 -t 4":    false,
		"-dev /etc/passwd":             true,
		"-dev CUDA0,/etc/passwd":       true,
		"-dev CUDA0/../x":              true,
		`-dev CUDA0\x`:                 true,
		"--device=./x":                 true,
		"-dev CUDA0 a/b":               true,
		"-m a/b":                       true,
		"--spec-draft-hf user":         true,
		"-hfrd user":                   true,
		"-rpc host:1":                  true,
		"--hf-repo=user":               true,
		"--log_file=~x --lora file://": true,
	} {
		t.Run(args, func(t *testing.T) {
			assert.Equal(t, refused, checkArguments(strings.Fields(args), divided) != nil)
		})
	}
	assert.Error(t, checkArguments([]string{"-ts", "1/1"}, nil), "quantizing has no such option")
}

func TestRecipesOfATaskNameNoFiles(t *testing.T) {
	recipe := config.Recipe{Name: "mix", Format: "Q4_K_M", Args: []string{"--tensor-type", "ffn_down=q6_k"}}
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
