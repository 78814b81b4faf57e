package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/publish"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

func (p *place) published() string { return filepath.Join(p.dir, "published") }

// manifest of the version that a link leads to, whose file has to be what it says.
func (p *place) manifest(link string) publish.Manifest {
	p.t.Helper()
	dir := filepath.Join(p.published(), link)
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	require.NoError(p.t, err)
	var m publish.Manifest
	require.NoError(p.t, json.Unmarshal(text, &m))
	sum, bytes, err := disk.Hash(p.t.Context(), filepath.Join(dir, m.File), nil)
	require.NoError(p.t, err)
	assert.Equal(p.t, sum, m.SHA256)
	assert.Equal(p.t, bytes, m.Bytes)
	return m
}

func TestRunPublishesWhatItKeeps(t *testing.T) {
	t.Parallel()
	slow := fakellama.Factor{Stage: "quantized", Format: "Q2_K", By: 2}
	p := newPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{slow}})
	p.configure(quick + "publish: {dir: published}\n")
	targets := []string{"--target", "Q2_K", "--target", "Q4_K_M"}

	got := p.run(append(targets, "--no-record")...)
	assert.Equal(t, exitRejected, got.status, got.stderr)
	assert.NoDirExists(t, p.published(), "a look without consequences")

	got = p.run(targets...)
	assert.Equal(t, exitRejected, got.status, got.stderr)
	assert.Contains(t, got.stdout, "Q4_K_M is published: "+filepath.Join(p.published(), "m", "Q4_K_M", "stable")+"\n")
	assert.NoDirExists(t, filepath.Join(p.published(), "m", "Q2_K"))
	m := p.manifest("m/Q4_K_M/stable")
	assert.Equal(t, "m-Q4_K_M.gguf", m.File)
	assert.Equal(t, 11669, m.Engine.Build)
	assert.NotNil(t, m.Decision.EventID)
	assert.EqualValues(t, 1, m.Decision.Cycle)
	assert.Contains(t, m.Arguments, "Q4_K_M")

	// Once more: the same version, of a decision that stood already.
	got = p.run(append(targets, "--output", "json")...)
	assert.Len(t, got.outcomes(t), 3)
	assert.Contains(t, got.stdout, `{"event_type":"QUANT_PUBLICATION","model_name":"m","target_format":"Q4_K_M",`)
	again := p.manifest("m/Q4_K_M/stable")
	assert.Equal(t, m.SHA256, again.SHA256)
	assert.EqualValues(t, 2, again.Decision.Cycle)
	assert.Nil(t, again.Decision.EventID)
	p.nothingLeft()
}

func TestRunPublishesWhatItChooses(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + "publish: {dir: published}\nchoose: smallest\n")
	got := p.run("--target", "Q8_0", "--target", "Q4_K_M")
	assert.Equal(t, exitKept, got.status, got.stderr)
	m := p.manifest("m/stable")
	assert.Equal(t, "Q4_K_M", m.TargetFormat)
	assert.Equal(t, "smallest", m.Decision.Choose)
	assert.NoDirExists(t, filepath.Join(p.published(), "m", "Q8_0"))
}

// The decision stands; the command has not done all that it was to do.
func TestRunThatCannotPublish(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + "publish: {dir: published}\n")
	mine := filepath.Join(p.published(), "m", "Q2_K", "stable")
	require.NoError(t, os.MkdirAll(filepath.Dir(mine), 0o700))
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o600))
	got := p.run()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stdout, "kept")
	assert.Contains(t, got.stdout, "Q2_K is not published: ")
	assert.Contains(t, got.stdout, `leads to "mine", which was not made by quant-exporter`)
	assert.Contains(t, got.stderr, "not every copy that is kept could be published")
	text, err := os.ReadFile(mine)
	require.NoError(t, err)
	assert.Equal(t, "mine", string(text))
	p.nothingLeft()

	got = p.run("--output", "json")
	assert.Equal(t, exitError, got.status)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	require.Len(t, lines, 2)
	assert.Contains(t, lines[0], `"decision":"kept"`)
	assert.Contains(t, lines[1], `"dir":null`)
}

func TestDirectoryToPublishInThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(quick + "publish: {dir: published}\n")
	require.NoError(t, os.WriteFile(p.published(), nil, 0o600))
	got := p.run()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "publish.dir")
	assert.Empty(t, got.stdout, "nothing was measured for it")

	p.configure(quick + "publish: {dir: models/published}\n")
	got = p.run()
	assert.Equal(t, exitError, got.status)
	assert.Contains(t, got.stderr, "--model-dir: publish.dir: ")
	assert.Contains(t, got.stderr, "where copies would be found as models")
}

// By the schedule: the metrics, pages and API tell it, and the alert's series goes down
// again.
func TestServePublishesWhatItKeeps(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	mine := filepath.Join(p.published(), "m", "Q2_K", "stable")
	require.NoError(t, os.MkdirAll(mine, 0o700))
	p.configure(once + "publish: {dir: published}\n")
	s := p.serve("--web.enable-admin-api")
	s.mustLog("run finished")
	pair := []string{"model_name", "m", "format", "Q2_K"}
	s.shows(1, "quant_cycle_copy_publish_failures_total", pair...)
	s.shows(1, "quant_cycle_unpublished", pair...)
	_, known := s.value("quant_cycle_published_timestamp_seconds", pair...)
	assert.False(t, known)
	page := func(path string) string {
		_, text := s.get(path)
		return text
	}
	assert.Contains(t, page("/"), "could not be published")
	assert.Contains(t, page("/cycles/1"), "is neither a symbolic link nor a file that says where one would lead, so it was not made by quant-exporter")

	require.NoError(t, os.Remove(mine))
	status, body := s.do("POST", "/api/v1/run?entry=once")
	require.Less(t, status, 300, body)
	s.loggedTimes(2, "run finished")
	s.shows(1, "quant_cycle_copy_publish_failures_total", pair...)
	s.shows(0, "quant_cycle_unpublished", pair...)
	assert.Positive(t, s.mustHave("quant_cycle_published_timestamp_seconds", pair...))
	assert.Positive(t, s.mustHave("quant_cycle_duration_seconds", "model_name", "m", "operation", "publish"))
	assert.EqualValues(t, 2, p.manifest("m/Q2_K/stable").Decision.Cycle)
	assert.Contains(t, page("/cycles/2"), mine)
	assert.Contains(t, page("/api/v1/cycles/2"), `"stable":"`+mine+`"`)
}
