package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

// Sizes of the soak.
const (
	soakEntries       = 50
	soakModelsOfEntry = 10
	soakKills         = 5
)

// soakTime is how long TestSoak lasts: SOAK=1h.
func soakTime(t *testing.T) time.Duration {
	text := os.Getenv("SOAK")
	if text == "" {
		t.Skip("SOAK says how long, as in SOAK=10m: see make soak")
	}
	length, err := time.ParseDuration(text)
	require.NoError(t, err)
	return length
}

// usage is what an exporter has at a time.
type usage struct{ memory, descriptors, goroutines float64 }

// 500 models in 50 entries that are due all the time, while others scrape, reload and look at
// pages, and the exporter is killed a few times: what it uses does not grow, and no entry is
// late.
func TestSoak(t *testing.T) {
	length := soakTime(t)
	p := newPlace(t, fakellama.Behaviour{})
	require.NoError(t, os.Remove(p.model))
	var entries strings.Builder
	for i := range soakEntries {
		fmt.Fprintf(&entries, "  - {name: e%02d, cron: \"@every %ds\", models: [\"m%02d-*\"], targets: [Q2_K]}\n", i, 5+i%7, i)
		for j := range soakModelsOfEntry {
			gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(p.models, fmt.Sprintf("m%02d-%d.gguf", i, j)))
		}
	}
	p.configure(quick + "storage: {retention: {cycles: 2}}\nschedule:\n" + entries.String())

	var lateness []time.Duration
	var kills int
	for range soakKills { // in its first tenth
		s := p.soaked(length/(10*soakKills), nil)
		lateness = append(lateness, s.lateness()...)
		s.kill()
		kills++
	}
	var samples []usage
	s := p.soaked(length*9/10, func(u usage) { samples = append(samples, u) })
	decided := 0.0
	for _, metric := range s.metrics()["quant_cycle_decision_total"].GetMetric() {
		decided += metric.GetCounter().GetValue()
	}
	assert.Zero(t, s.stop(), s.log())
	p.nothingLeft()
	lateness = append(lateness, s.lateness()...)

	require.GreaterOrEqual(t, len(samples), 8, "too short to show anything")
	early, late := typical(samples[len(samples)/4:len(samples)/2]), typical(samples[len(samples)*3/4:])
	slices.Sort(lateness)
	require.NotEmpty(t, lateness)
	p99 := lateness[len(lateness)*99/100]
	t.Logf("%v, %d kills, %.0f decisions: memory %.0f → %.0f MB, descriptors %.0f → %.0f, goroutines %.0f → %.0f; lateness of %d fires: p99 %v, most %v",
		length, kills, decided, early.memory/1e6, late.memory/1e6, early.descriptors, late.descriptors, early.goroutines, late.goroutines,
		len(lateness), p99, lateness[len(lateness)-1])
	assert.LessOrEqual(t, late.memory, 1.2*early.memory+16e6, "memory grows")
	assert.LessOrEqual(t, late.descriptors, early.descriptors+10, "descriptors grow")
	assert.LessOrEqual(t, late.goroutines, 1.1*early.goroutines+10, "goroutines grow")
	assert.Less(t, p99, time.Second, "entries are late")
}

// soaked starts an exporter and works it for so long. It calls sample, if there is one, all the
// time with what it uses.
func (p *place) soaked(length time.Duration, sample func(usage)) *server {
	p.t.Helper()
	s := p.launch(plain(p.t), "--model-dir", p.models, "--llamacpp.dir", p.tools)
	s.endsWithTest()
	s.listens()
	text, err := os.ReadFile(p.config)
	require.NoError(p.t, err)
	began, over := time.Now(), make(chan struct{})
	var scrapers sync.WaitGroup
	var answers atomic.Int64
	for _, path := range []string{"/metrics", "/", "/cycles", "/api/v1/models"} {
		scrapers.Go(func() { answers.Add(s.scraped(path, over)) })
	}
	every := max(length/100, time.Second)
	reload, look, end := time.NewTicker(3*every), time.NewTicker(every), time.After(length)
	defer reload.Stop()
	defer look.Stop()
work:
	for {
		select {
		case <-end:
			break work
		case <-reload.C:
			p.configure(fmt.Sprintf("%s# %v\n", text, time.Since(began))) // an unchanged file is not taken again
			s.signal(syscall.SIGHUP)
		case <-look.C:
			if sample != nil {
				sample(usage{
					memory:      s.mustHave("process_resident_memory_bytes"),
					descriptors: s.mustHave("process_open_fds"),
					goroutines:  s.mustHave("go_goroutines"),
				})
			}
		}
	}
	close(over)
	scrapers.Wait()
	assert.Positive(p.t, answers.Load())
	return s
}

// scraped asks for a path twenty times a second, and returns how often there was an answer.
func (s *server) scraped(path string, over <-chan struct{}) (answers int64) {
	turn := time.NewTicker(50 * time.Millisecond)
	defer turn.Stop()
	for {
		select {
		case <-over:
			return answers
		case <-turn.C:
		}
		response, err := http.Get(s.url + path)
		if err != nil {
			continue // which the count of answers shows
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		answers++
	}
}

// typical is the median of each figure.
func typical(samples []usage) usage {
	median := func(of func(usage) float64) float64 {
		values := make([]float64, len(samples))
		for i, sample := range samples {
			values[i] = of(sample)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return usage{
		memory:      median(func(u usage) float64 { return u.memory }),
		descriptors: median(func(u usage) float64 { return u.descriptors }),
		goroutines:  median(func(u usage) float64 { return u.goroutines }),
	}
}

// fired finds when an entry was due, in the line that is logged at once where an earlier run of
// it is not over.
var fired = regexp.MustCompile(`^time=(\S+) .*an earlier one of the entry is not over.* due="?([^" ]+ ?[^" ]*)`)

// lateness are the times from when an entry was due to when the exporter took note.
func (s *server) lateness() []time.Duration {
	var all []time.Duration
	for line := range strings.SplitSeq(s.log(), "\n") {
		match := fired.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, match[1])
		require.NoError(s.t, err)
		due, err := time.Parse(time.RFC3339Nano, match[2])
		require.NoError(s.t, err, line)
		all = append(all, at.Sub(due))
	}
	return all
}
