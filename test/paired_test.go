package test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

func TestVerdictsByThePairedMethod(t *testing.T) {
	for name, test := range map[string]struct {
		factors []fakellama.Factor
		status  int
		want    verdict.Outcome
	}{
		"kept":     {nil, exitKept, verdict.Kept},
		"rejected": {[]fakellama.Factor{slowed}, exitRejected, verdict.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{Server: true, Factors: test.factors})
			p.configure(strings.Replace(quick, "max: 4", "max: 40", 1)) // bursts of two tokens say little where other tests run
			got := p.run("--output", "json")
			assert.Equal(t, test.status, got.status, got.stderr)
			o := got.one(t)
			assert.Equal(t, test.want, o.Decision)
			assert.Equal(t, config.MethodPaired, o.Method)
			assert.Empty(t, o.MethodReason)
			p.nothingLeft()
		})
	}
}

func TestFaultsOfServersAreFailures(t *testing.T) {
	for _, test := range []struct {
		stage, step string
		do          fakellama.Do
		reason      runner.Reason
		says        string
	}{
		{"original", "", fakellama.SegmentationFault, runner.ReasonCrash, "SIGSEGV"},
		{"quantized", "", fakellama.ExitWithMessage, runner.ReasonBenchmark, "something went wrong"},
		{"original", "answer", fakellama.NoTimings, runner.ReasonBenchmark, "has no timings"},
		{"quantized", "answer", fakellama.Abort, runner.ReasonCrash, "SIGABRT"},
	} {
		t.Run(test.stage+" "+test.step+" "+string(test.do), func(t *testing.T) {
			t.Parallel()
			fault := fakellama.Fault{Tool: "llama-server", Stage: test.stage, Step: test.step, Do: test.do}
			p := newPlace(t, fakellama.Behaviour{Server: true, Faults: []fakellama.Fault{fault}})
			p.requireFailed(p.run("--output", "json"), test.reason, "llama-server", test.says)
		})
	}
}

func TestWithoutMemoryForBothFilesAreMeasuredByAProcessEach(t *testing.T) {
	for _, fault := range []fakellama.Fault{
		{Do: fakellama.OutOfMemory},
		{Do: fakellama.Kill},
		{Step: "answer", Do: fakellama.OutOfGPUMemory, Calls: []int{3}},
	} {
		t.Run(fault.Step+" "+string(fault.Do), func(t *testing.T) {
			t.Parallel()
			fault.Tool, fault.Stage = "llama-server", "quantized"
			p := newPlace(t, fakellama.Behaviour{Server: true, Faults: []fakellama.Fault{fault}})
			got := p.run("--output", "json")
			assert.Zero(t, got.status, got.stderr)
			o := got.one(t)
			assert.Equal(t, verdict.Kept, o.Decision)
			assert.Equal(t, config.MethodProcess, o.Method)
			assert.Contains(t, o.MethodReason, "memory")
			p.nothingLeft()
		})
	}
}

func TestPairsThatAreAskedForNeedAServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure("engine: {threads: 1}\nbenchmark: {method: paired}\n")
	got := p.run("--output", "json")
	p.requireFailed(got, runner.ReasonEngineMissing, "benchmark.method is paired, and the files cannot be measured in pairs", "use auto or process")
	require.Contains(t, got.one(t).Error, "llama-server is not in")
}
