package command

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseSaysWhatWasMeant(t *testing.T) {
	for line, want := range map[string]string{
		"rnu":                         `unknown command "rnu"; did you mean "run"?`,
		"start":                       `unknown command "start"`,
		"serve x":                     `"x" is one argument too many for serve`,
		"backup a b":                  `"b" is one argument too many for backup`,
		"run llama":                   `"llama" is an argument, and run takes only flags; name models with --model`,
		"--web.listen-address=:1 run": `"run" stands behind a flag of serve, which is done without a command: leave that flag out`,
		"run --models x":              `run has no flag --models; did you mean "--model"?`,
		"run --no-wiat":               `run has no flag --no-wiat; did you mean "--no-wait"?`,
		"--web.listen-addr=:1":        `serve has no flag --web.listen-addr; did you mean "--web.listen-address"?`,
		"--xyz":                       `serve has no flag --xyz`,
		"run -x":                      `run has no flag -x`,
		"run --web.listen-address=:1": `--web.listen-address is a flag of serve, not of run`,
		"export --no-wait":            `--no-wait is a flag of run and calibrate, not of export`,
		"events --delivery foo":       `--delivery: "foo" is not one of held, pending, delivered, superseded`,
		"run --choose smalest":        `--choose: "smalest" is not one of none, smallest, fastest, best-quality; did you mean "smallest"?`,
		"calibrate m --rounds x":      `--rounds: "x" is not a whole number`,
		"calibrate":                   `calibrate needs a MODEL`,
		"backup":                      `backup needs a FILE`,
		"help rnu":                    `unknown command "rnu"; did you mean "run"?`,
		"--config x.yml":              `serve has no flag --config; did you mean "--config.file"?`,
		"run --storage x":             `run has no flag --storage; did you mean "--storage.path"?`,
		"--log.level=loud":            `--log.level: "loud" is not one of debug, info, warn, error`,
		"--log.format=jsn":            `--log.format: "jsn" is not one of logfmt, json; did you mean "json"?`,
		"run --model":                 `expected argument for flag '--model'`,
	} {
		t.Run(line, func(t *testing.T) {
			_, err := NewFlags(io.Discard).Parse(strings.Fields(line))
			assert.EqualError(t, err, want)
		})
	}
}

func TestParseNamesTheVariable(t *testing.T) {
	t.Setenv("DRY_RUN", "yes")
	_, err := NewFlags(io.Discard).Parse([]string{"run"})
	assert.EqualError(t, err, `DRY_RUN: "yes" is not true or false`)
}

func TestFlagsOfTheServerNeedNoCommand(t *testing.T) {
	for _, line := range []string{
		"--web.listen-address=:1 --config.file=x", "--config.file=x --web.listen-address=:1", "serve --web.listen-address=:1 --config.file=x",
	} {
		f := NewFlags(io.Discard)
		name, err := f.Parse(strings.Fields(line))
		require.NoError(t, err, line)
		assert.Equal(t, "serve", name)
		assert.Equal(t, "x", f.ConfigFile)
		assert.Equal(t, []string{":1"}, *f.Serve.Web.WebListenAddresses)
	}
}

func TestHelpNegatesNoNegation(t *testing.T) {
	var out bytes.Buffer
	_, err := plainNegatives{&out}.Write([]byte("--[no-]no-wait  Fail\n--[no-]verbose  Log\n"))
	require.NoError(t, err)
	assert.Equal(t, "--no-wait       Fail\n--[no-]verbose  Log\n", out.String())
}

// The title of a manual page has to be one line, whatever --version prints.
func TestManualBeginsWithItsTitle(t *testing.T) {
	var out bytes.Buffer
	f := NewFlags(&out)
	context, err := f.App.ParseContext([]string{"--help-man"})
	require.NoError(t, err)
	require.NoError(t, f.App.UsageForContextWithTemplate(context, 2, manual()))
	lines := strings.Split(out.String(), "\n")
	assert.Regexp(t, `^\.TH quant-exporter 1 "" "quant-exporter .*"$`, lines[0])
	assert.Equal(t, `.SH "NAME"`, lines[1])
}
