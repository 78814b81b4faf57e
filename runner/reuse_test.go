package runner_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// shelf is a cache in memory.
type shelf struct {
	files   map[string][]byte
	err     error
	wanted  int64    // bytes, by MakeRoom
	spared  []string // keys, by MakeRoom
	gotten  int
	noSpace bool // a file of it takes room
}

func (s *shelf) Has(key, _ string) bool { return s.files[key] != nil && !s.noSpace }

func (s *shelf) Get(_ context.Context, key, path string) (string, bool, error) {
	if s.err != nil || s.files[key] == nil {
		return "", false, s.err
	}
	s.gotten++
	return hashOf(s.files[key]), true, os.WriteFile(path, s.files[key], 0o600)
}

func (s *shelf) Put(_ context.Context, key, path string) error {
	if s.err != nil {
		return s.err
	}
	content, err := os.ReadFile(path)
	s.files[key] = content
	return err
}

func (s *shelf) Drop(_ context.Context, key string) error {
	delete(s.files, key)
	return s.err
}

func (s *shelf) MakeRoom(_ context.Context, _ string, bytes int64, keep []string) error {
	s.wanted, s.spared = bytes, keep
	return s.err
}

func hashOf(content []byte) string {
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:])
}

// notes remember hashes.
type notes struct {
	mu     sync.Mutex
	hashes map[model.FileID]string
	asked  int
}

func (n *notes) Hash(id model.FileID) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	id.Path, id.Modified = "", id.Modified.UTC()
	hash, known := n.hashes[id]
	return hash, known
}

func (n *notes) RememberHash(id model.FileID, hash string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	id.Path, id.Modified = "", id.Modified.UTC()
	n.hashes[id] = hash
	return nil
}

// machine is a host with this driver.
type machine struct {
	quiet
	driver string
}

func (machine) Machine() string  { return "a machine" }
func (m machine) Driver() string { return m.driver }

// newReuseFixture has an engine that tells its build, and a model that is at rest.
func newReuseFixture(t *testing.T, targets ...string) (*fixture, *shelf, *notes) {
	f := newQualityFixture(t, &engine{info: runner.EngineInfo{Version: "1", Build: 11669, Threads: 3, Arguments: map[string]string{"quantize_args": "[--pure]"}}}, targets...)
	kept, known := &shelf{files: map[string][]byte{}}, &notes{hashes: map[model.FileID]string{}}
	f.options.Cache, f.options.Hashes = kept, known
	f.options.Host = machine{driver: "a driver"}
	for _, file := range append([]string{f.request.Quality.Corpus}, f.model.Files...) {
		f.age(file)
	}
	f.rediscover()
	return f, kept, known
}

// age sets a file back by an hour.
func (f *fixture) age(file string) {
	before := time.Now().Add(-time.Hour)
	require.NoError(f.t, os.Chtimes(file, before, before))
}

func (f *fixture) rediscover() {
	found, err := model.Discover(filepath.Dir(f.model.Path), false, nil)
	require.NoError(f.t, err)
	f.model, f.request.Model = found.Models[0], found.Models[0]
}

func TestResultsHaveTheirInputs(t *testing.T) {
	f, _, _ := newReuseFixture(t, "Q8_0")
	content, err := os.ReadFile(f.model.Path)
	require.NoError(t, err)
	inputs := f.run(t.Context())["Q8_0"].Inputs
	require.NotNil(t, inputs)
	assert.Equal(t, hashOf(content), inputs.Source, "as sha256sum prints it")
	assert.Equal(t, hashOf([]byte("In the beginning")), inputs.Corpus)
	assert.Equal(t, runner.EngineID{Name: "made up", Version: "1", Build: 11669}, inputs.Engine)
	assert.Equal(t, "a machine", inputs.Hardware)
	assert.Equal(t, "a driver", inputs.Driver)
	assert.Equal(t, "[--pure]", inputs.Arguments["engine.quantize_args"])
	assert.Equal(t, "3", inputs.Arguments["engine.threads"])
	assert.Equal(t, "0.12", inputs.Decision["threshold"])
	assert.NotContains(t, inputs.Decision, "quality.corpus", "what the text holds counts, not where it lies")
}

// A file that has its full size from the start, as some clients give it, is not a model before
// its content is there.
func TestAModelWithAHoleIsRefused(t *testing.T) {
	f, _, known := newReuseFixture(t, "Q8_0")
	content, err := os.ReadFile(f.model.Path)
	require.NoError(t, err)
	clear(content[len(content)*3/10:])
	require.NoError(t, os.WriteFile(f.model.Path, content, 0o644))
	f.age(f.model.Path)
	f.rediscover()
	for range 2 {
		r := f.run(t.Context())["Q8_0"]
		require.NotNil(t, r.Failure)
		assert.Equal(t, runner.ReasonBadModel, r.Failure.Reason)
		require.ErrorContains(t, r.Failure, f.model.Path)
		require.ErrorContains(t, r.Failure, "nothing but zeros")
		assert.NotContains(t, slices.Collect(maps.Values(known.hashes)), hashOf(content), "a hash that is remembered says that the file was looked at")
	}
}

func TestEachFileOfASplitSetCounts(t *testing.T) {
	f, _, _ := newReuseFixture(t, "Q8_0")
	dir := t.TempDir()
	for i, part := range gguftest.Split(gguftest.Model(gguftest.Tiny()), 2) {
		part.Write(t, gguf.ShardPath(filepath.Join(dir, "set"), i+1, 2))
	}
	found, err := model.Discover(dir, false, nil)
	require.NoError(t, err)
	require.Len(t, found.Models, 1)
	f.request.Model = found.Models[0]
	whole, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
	require.NoError(t, err)

	f.request.Model.Files, f.request.Model.IDs = f.request.Model.Files[:1], f.request.Model.IDs[:1]
	part, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
	require.NoError(t, err)
	assert.NotEqual(t, whole.Source, part.Source)
}

func TestAnEngineWithoutABuildTellsItByItsMeasurement(t *testing.T) {
	f, kept, _ := newReuseFixture(t, "Q8_0")
	f.engine.info.Version, f.engine.info.Build = "", 0
	f.engine.measured = runner.Measurement{Build: 4711, Commit: "abc", Backends: "CPU", GPU: "none"}
	r := f.run(t.Context())["Q8_0"]
	assert.Equal(t, runner.EngineID{Name: "made up", Build: 4711, Commit: "abc"}, r.Inputs.Engine)
	assert.Equal(t, "CPU", r.Inputs.Backends)
	assert.Equal(t, "none", r.Inputs.GPU)
	assert.Empty(t, kept.files, "when they were made nobody knew the build")
}

func TestAFileIsReadOnce(t *testing.T) {
	f, _, known := newReuseFixture(t, "Q8_0")
	locked := 0
	f.options.Lock = lock(func() (func(), error) {
		locked++
		return func() {}, nil
	})
	find := func() runner.Inputs {
		inputs, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
		require.NoError(t, err)
		return inputs
	}
	first := find()
	assert.Equal(t, 1, locked, "a file is read with the host to itself")
	require.Len(t, known.hashes, 2)
	for id := range known.hashes { // what is remembered is what is taken
		known.hashes[id] = "remembered"
	}
	second := find()
	assert.Equal(t, 1, locked, "nothing is read")
	assert.Equal(t, "remembered", second.Source)
	assert.Equal(t, "remembered", second.Corpus)

	other := gguftest.Tiny()
	require.NoError(t, os.Rename(gguftest.Model(other).Write(t, filepath.Join(t.TempDir(), "m.gguf")), f.model.Path))
	f.rediscover()
	assert.Equal(t, first.Source, find().Source, "the same content in another file")
	assert.NotEmpty(t, first.Source)
}

// The time of a file that has just been written does not tell it from the next one.
func TestAFreshFileIsNotRemembered(t *testing.T) {
	f, _, known := newReuseFixture(t, "Q8_0")
	now := time.Now()
	require.NoError(t, os.Chtimes(f.model.Path, now, now))
	f.rediscover()
	f.request.Quality = config.DefaultQuality()
	_, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
	require.NoError(t, err)
	assert.Empty(t, known.hashes)
}

func TestInputsAreNotFound(t *testing.T) {
	gone := errors.New("gone")
	for name, test := range map[string]struct {
		spoil func(*fixture)
		want  string
	}{
		"bad model":       {func(f *fixture) { f.request.Model.Err = gone }, "gone"},
		"engine missing":  {func(f *fixture) { f.engine.probe = func() error { return gone } }, "looking at the engine: gone"},
		"no text":         {func(f *fixture) { f.request.Quality.Corpus += "x" }, "quality.corpus"},
		"no matrix":       {func(f *fixture) { f.engine.info.Files = map[string]string{"imatrix": "/nowhere"} }, "engine.imatrix"},
		"model exchanged": {func(f *fixture) { f.age(f.model.Path) }, "the model changed"},
		"host not free": {func(f *fixture) {
			f.options.Lock = lock(func() (func(), error) { return nil, gone })
		}, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, _ := newReuseFixture(t, "Q8_0")
			test.spoil(f)
			_, err := runner.New(f.engine, f.options).Inputs(t.Context(), f.request)
			require.ErrorContains(t, err, test.want)
		})
	}
	t.Run("stopped", func(t *testing.T) {
		f, _, _ := newReuseFixture(t, "Q8_0")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := runner.New(f.engine, f.options).Inputs(ctx, f.request)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestCopiesAndPredictionsAreReused(t *testing.T) {
	f, kept, _ := newReuseFixture(t, "Q8_0", "Q2_K")
	first := f.run(t.Context())
	assert.Equal(t, []string{"Q8_0", "Q2_K"}, f.engine.quantized)
	assert.Len(t, kept.files, 3)
	assert.Empty(t, first["Q8_0"].Evidence.Reused)
	f.engine.evaluated = nil

	second := f.run(t.Context())
	assert.Equal(t, []string{"Q8_0", "Q2_K"}, f.engine.quantized, "nothing is quantized again")
	assert.Equal(t, []string{"Q8_0.gguf", "Q2_K.gguf"}, f.engine.evaluated, "nor predicted")
	assert.Equal(t, 3, kept.gotten)
	for target, r := range second {
		assert.Equal(t, first[target].Outcome(), r.Outcome())
		assert.Equal(t, first[target].Quantized, r.Quantized)
		assert.Len(t, r.Evidence.Reused, 64, "the evidence says so")
		assert.Equal(t, runner.ToolRun{Args: first[target].Evidence.Quantize.Args}, r.Evidence.Quantize, "how it was made")
		assert.Len(t, r.Evidence.Quality.Reused, 64)
		assert.Empty(t, r.Evidence.Quality.Predict.Args)
		assert.Positive(t, r.Durations[runner.OperationQuantize], "reading it takes time, too")
	}
	assert.Equal(t, verdict.Kept, second["Q8_0"].Outcome())
}

// What a file depends on is in its key, and what it does not depend on is not.
func TestOnlyTheSameIsReused(t *testing.T) {
	for name, test := range map[string]struct {
		change    func(*fixture)
		quantizes bool
		predicts  bool
	}{
		"build": {func(f *fixture) { f.engine.info.Build = 11702 }, true, true},
		"arguments of llama-quantize": {func(f *fixture) {
			f.engine.info.Arguments = map[string]string{"quantize_args": "[--leave-output-tensor]"}
		}, true, true},
		"importance matrix": {func(f *fixture) { f.engine.info.Files = map[string]string{"imatrix": f.request.Quality.Corpus} }, true, true},
		"file that an argument of llama-quantize names": {func(f *fixture) {
			f.engine.info.Files = map[string]string{"quantize_args /types.txt": f.request.Quality.Corpus}
		}, true, true},
		"arguments of llama-perplexity": {func(f *fixture) { f.engine.info.Arguments["evaluate_args"] = "[-ngl 0]" }, false, true},
		"devices":                       {func(f *fixture) { f.engine.info.Devices = "CUDA0: NVIDIA H200" }, false, true},
		"model": {func(f *fixture) {
			content, err := os.ReadFile(f.model.Path)
			require.NoError(f.t, err)
			content[len(content)-1] ^= 1
			require.NoError(f.t, os.WriteFile(f.model.Path, content, 0o600))
			f.rediscover()
		}, true, true},
		"text":                {func(f *fixture) { require.NoError(f.t, os.WriteFile(f.request.Quality.Corpus, []byte("And"), 0o600)) }, false, true},
		"chunks":              {func(f *fixture) { f.request.Quality.Chunks = 64 }, false, true},
		"driver":              {func(f *fixture) { f.options.Host = machine{driver: "another"} }, false, true},
		"what is benchmarked": {func(f *fixture) { f.request.Benchmark.Depth = config.Depths{8} }, false, false},
		"limit":               {func(f *fixture) { f.request.Quality.MaxKLDivergence = 0.1; f.request.Threshold = 0.2 }, false, false},
		// Of the model in that format there is a copy already; what it predicts is its own.
		"baseline": {func(f *fixture) { f.request.Baseline = "Q8_0" }, false, true},
		"nothing":  {func(*fixture) {}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, _ := newReuseFixture(t, "Q8_0")
			f.run(t.Context())
			f.engine.quantized, f.engine.evaluated = nil, nil
			test.change(f)
			f.run(t.Context())
			assert.Equal(t, test.quantizes, len(f.engine.quantized) > 0, "quantizes")
			assert.Equal(t, test.predicts, len(f.engine.evaluated) > 1, "predicts")
		})
	}
}

func TestACacheThatFailsCostsNothingButTime(t *testing.T) {
	f, kept, _ := newReuseFixture(t, "Q8_0")
	kept.err = errors.New("the disk is broken")
	r := f.run(t.Context())["Q8_0"]
	assert.Equal(t, verdict.Kept, r.Outcome())
	assert.Empty(t, r.Evidence.Reused)
}

func TestKeptFilesMakeRoom(t *testing.T) {
	f, kept, _ := newReuseFixture(t, "Q8_0")
	f.engine.size = func(string) (int64, bool) { return 1 << 60, true }
	failure := f.failure("Q8_0", f.run(t.Context()))
	assert.Equal(t, runner.ReasonNoSpace, failure.Reason, "there was not enough to remove")
	assert.Greater(t, kept.wanted, int64(1<<60))
	assert.Len(t, kept.spared, 3, "the files of the cycle itself: the copy, and predictions for each look")

	f.engine.size = nil
	f.run(t.Context())
	f.engine.size = func(string) (int64, bool) { return 1 << 60, true }
	assert.Equal(t, verdict.Kept, f.run(t.Context())["Q8_0"].Outcome(), "a kept copy takes no room")
	kept.noSpace = true
	assert.Equal(t, runner.ReasonNoSpace, f.failure("Q8_0", f.run(t.Context())).Reason, "on another file system it does")
}
