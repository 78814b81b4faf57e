package runner_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// dropped are the files that were dropped from memory before anything was measured, in their order.
func (f *fixture) dropped() *[]string {
	var names []string
	f.options.DropCache = func(path string) error {
		names = append(names, filepath.Base(path))
		return nil
	}
	return &names
}

func TestFilesAreReadAfreshBeforeTheyAreMeasured(t *testing.T) {
	f := newFixture(t, &engine{}, "Q2_K", "Q8_0")
	dropped := f.dropped()
	f.engine.speed = func(file string, _ int) (float64, error) {
		assert.Equal(t, []string{"original.gguf", "Q2_K.gguf", "Q8_0.gguf"}, *dropped, "when %s is measured", file)
		return 100, nil
	}
	assert.Equal(t, map[string]verdict.Outcome{"Q2_K": verdict.Kept, "Q8_0": verdict.Kept}, outcomes(f.run(t.Context())))
	assert.Len(t, *dropped, 3, "once each")
}

// The original's pages are the same for every group; to read it again would take minutes of a large model.
func TestOriginalIsReadAfreshOnce(t *testing.T) {
	f := newLadder(t, choice.Smallest, &engine{speed: factors(map[string]float64{"Q2_K.gguf": 0.5})}, nil)
	dropped := f.dropped()
	f.run(t.Context())
	assert.Equal(t, []string{"original.gguf", "Q2_K.gguf", "Q4_K_M.gguf"}, *dropped)
}

func TestBaselineIsReadAfreshInPlaceOfTheModel(t *testing.T) {
	f := newFixture(t, &engine{speed: factors(nil)}, "Q2_K")
	f.request.Baseline = "Q8_0"
	dropped := f.dropped()
	f.run(t.Context())
	assert.Equal(t, []string{"baseline.gguf", "Q2_K.gguf"}, *dropped)
}

func TestCopyThatCannotBePutOnTheDisk(t *testing.T) {
	f := newFixture(t, &engine{}, "Q2_K", "Q8_0")
	f.options.DropCache = func(path string) error {
		if filepath.Base(path) == "Q2_K.gguf" {
			return fmt.Errorf("writing %s to the disk: %w", path, syscall.ENOSPC)
		}
		return nil
	}
	results := f.run(t.Context())
	assert.Equal(t, verdict.Kept, results["Q8_0"].Outcome())
	assert.Equal(t, runner.ReasonNoSpace, f.failure("Q2_K", results).Reason)
}
