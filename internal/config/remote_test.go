package config_test

import (
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
		"--hf_repo=user":               true,
		"--log_file=~x --lora file://": true,
	} {
		t.Run(args, func(t *testing.T) {
			assert.Equal(t, refused, config.CheckRemoteArgs(strings.Fields(args)) != nil)
		})
	}
}

func TestArgumentsOfQuantizingNameTensorsAndNoFiles(t *testing.T) {
	for args, refused := range map[string]bool{
		"--pure":                             false,
		"--tensor-type ffn_down=q6_k --pure": false,
		`--tensor-type blk\.0\.ffn_down=q6_k --tensor-type blk\.1\.ffn_up=q5_k`: false,
		`--tensor-type ../x`:             true,
		`--tensor-type ~x`:               true,
		`--tensor-type-file C:\x`:        true,
		`--tensor-type a=q6_k C:\x`:      true,
		`--tensor-type=blk\.0=q6_k`:      true, // which llama-quantize does not know
		"--tensor-type-file /etc/passwd": true,
		"-ts 1/1":                        true, // nor this
		"--tensor-type a=q6_k -hf a":     true,
	} {
		t.Run(args, func(t *testing.T) {
			assert.Equal(t, refused, config.CheckRemoteQuantizeArgs(strings.Fields(args)) != nil)
		})
	}
	err := config.CheckRemoteArgs([]string{"--api-key", "hunter/2"})
	require.ErrorContains(t, err, "which may name a file")
	assert.NotContains(t, err.Error(), "hunter")
}

// What a worker would refuse night after night is found by the check of the configuration.
func TestEntriesForAFleetAreCheckedAsWorkersDo(t *testing.T) {
	const fleet = "fleet: {url: 'redis://h'}\n"
	entry := func(on, more string) string {
		return "schedule: [{name: n, cron: '@daily', " + on + more + "}]"
	}
	for name, test := range map[string]struct{ more, want string }{
		"an expression":           {`targets: [{name: a, format: Q8_0, args: [--tensor-type, 'blk\.0\.ffn_down=q6_k']}]`, ""},
		"types in a file":         {`targets: [{name: a, format: Q8_0, args: [--tensor-type-file, /srv/types.txt]}]`, `schedule[0].targets[0].args: has the argument "/srv/types.txt", which may name a file`},
		"devices":                 {`engine: {bench_args: [-ts, 3/1]}`, ""},
		"a file of a measuring":   {`engine: {bench_args: [--lora, /srv/lora.gguf]}`, `schedule[0].engine.bench_args: has the argument "/srv/lora.gguf"`},
		"a host":                  {`engine: {bench_args: ["--rpc=h:1"]}`, `schedule[0].engine.bench_args: has the option --rpc, which uses the network`},
		"a file of a quantizing":  {`engine: {quantize_args: [--tensor-type-file, /srv/types.txt]}`, `schedule[0].engine.quantize_args: has the argument`},
		"a file of an evaluation": {`engine: {evaluate_args: [--lora, /srv/lora.gguf]}`, `schedule[0].engine.evaluate_args: has the argument`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read("c.yml", []byte(fleet+entry("on: [h100], ", test.more)))
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
			_, err = read("c.yml", []byte(entry("", test.more)))
			assert.NoError(t, err, "on this host")
		})
	}
}
