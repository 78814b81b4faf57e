package fleet

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
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
