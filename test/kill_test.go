package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

var killSeed = flag.Uint64("kill-seed", 0, "seed of TestKilledAtAnyMoment and TestChaos; 0 is another one each time")

// plain is the program as it is shipped: the race detector's start alone takes longer
// than most of the lives here.
func plain(t testing.TB) string { return program.Build(t, ".") }

// restless has runs that follow one another from the start on, and keeps all results.
const restless = quick + `
storage: {retention: {age: 0s, cycles: 0}}
schedule:
  - {name: two, cron: "@every 1s", run_on_start: true, models: ["m*"], targets: [Q2_K, Q8_0]}
  - {name: queue, cron: "@every 1s", run_on_start: true, models: [n], targets: [Q4_K_M], overlap: queue}
  - {name: late, cron: "@every 1s", models: [o], targets: [Q2_K, Q4_K_M]}
`

// Whatever moment the exporter is killed at: what it has shown or said is stored is there
// afterwards, nothing in the state contradicts itself, no tool goes on, and the next start
// tidies up.
func TestKilledAtAnyMoment(t *testing.T) {
	program.NotShort(t)
	t.Parallel()
	states, kills := uint64(4), 13 // of each
	if chaosIsLong() {
		states, kills = 8, 26
	}
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	var all tally
	t.Run("states", func(t *testing.T) {
		for i := range states {
			t.Run(fmt.Sprintf("kill-seed=%d,state=%d", seed, i), func(t *testing.T) {
				t.Parallel()
				v := newVictim(t, rand.New(rand.NewPCG(seed, i)))
				for range kills {
					v.kill()
				}
				v.live()
				all.add(v.tally)
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Logf("%d kills, %d of them before it listened and %d in a cycle; %d results, %d events, %d scrapes",
		all.kills, all.starting, all.inCycle, all.results, all.events, all.scrapes)
	assert.Equal(t, int(states)*kills, all.kills)
	// How many there are is a matter of the host's speed; without any, nothing was tested.
	assert.Positive(t, all.inCycle, "it is to be under load")
	assert.Positive(t, all.results, "it must get somewhere")
	assert.Positive(t, all.events, "decisions must change")
}

// tally is what has happened.
type tally struct {
	mu                                                 sync.Mutex
	kills, starting, inCycle, results, events, scrapes int
}

func (t *tally) add(o *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kills += o.kills
	t.starting += o.starting
	t.inCycle += o.inCycle
	t.results += o.results
	t.events += o.events
	t.scrapes += o.scrapes
}

// victim is an exporter that is killed again and again on one state.
type victim struct {
	*place
	*tally
	random  *rand.Rand
	program string
	rarer   []fakellama.Behaviour // of the tools

	// What the state held after the last kill.
	histories   map[store.PairID][]store.Point
	seqs        []string // IDs of the events
	undecided   int      // targets of cycles that had not ended
	interrupted uint64
	newest      uint64 // cycle
}

func newVictim(t *testing.T, random *rand.Rand) *victim {
	v := &victim{
		place: newPlace(t, fakellama.Behaviour{}), tally: new(tally), random: random, program: plain(t),
		histories: map[store.PairID][]store.Point{},
		rarer: []fakellama.Behaviour{
			{Factors: []fakellama.Factor{{Stage: "quantized", Format: "Q2_K", By: 2}}},
			{Factors: []fakellama.Factor{atThreshold}, Noise: noisy},
			{Faults: []fakellama.Fault{{Tool: "llama-quantize", Format: "Q4_K_M", Do: fakellama.DiskFull}}},
		},
	}
	if runtime.GOOS == "linux" { // elsewhere nobody ends the tools of a killed process
		v.rarer = append(v.rarer, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-bench", Do: fakellama.HangIgnoringSIGTERM}}})
	}
	for _, name := range []string{"m2", "n", "o"} {
		gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(v.models, name+".gguf"))
	}
	bus := "" // events are held, or wait for a bus that nobody serves
	if random.IntN(2) > 0 {
		bus = "a2a: {url: 'redis://" + nobody + "/0'}\n"
	}
	v.configure(restless + bus)
	return v
}

func (v *victim) start() *server {
	v.t.Helper()
	return v.launch(v.program, "--model-dir", v.models, "--llamacpp.dir", v.tools)
}

// kill starts the exporter and kills it at random: one in five while it starts.
func (v *victim) kill() {
	v.t.Helper()
	fakellama.Set(v.t, v.tools, v.behaviour())
	left := v.workDirs()
	s := v.start()
	defer s.kill()
	scraped := make(chan []byte, 1)
	listened := v.random.IntN(5) > 0
	if listened {
		v.listened(s, left)
		go func() { scraped <- s.scrapes() }()
		<-time.After(time.Duration(v.random.IntN(400)) * time.Millisecond)
	} else {
		close(scraped)
		v.starting++
		<-time.After(time.Duration(v.random.IntN(60)) * time.Millisecond)
	}
	s.kill()
	v.kills++
	require.Equal(v.t, "signal: killed", s.cmd.ProcessState.String(), s.log())
	fakellama.NoneLeft(v.t, v.tools)
	v.check(s, listened, <-scraped)
}

// behaviour of the tools until the next kill: the standing decisions are to change often.
func (v *victim) behaviour() fakellama.Behaviour {
	switch {
	case v.random.IntN(3) == 0:
		return v.rarer[v.random.IntN(len(v.rarer))]
	case v.kills%2 == 0:
		return fakellama.Behaviour{}
	default:
		return fakellama.Behaviour{Factors: []fakellama.Factor{slowed}}
	}
}

// listened waits until the exporter has begun, and sees that it has cleared away what the
// killed ones before it left.
func (v *victim) listened(s *server, left []string) {
	v.t.Helper()
	s.listens()
	require.NotEmpty(v.t, s.url, s.log())
	for _, dir := range left {
		require.NoDirExists(v.t, filepath.Join(v.work(), dir), s.log())
	}
}

func (v *victim) workDirs() []string {
	v.t.Helper()
	entries, err := os.ReadDir(v.work())
	if !os.IsNotExist(err) {
		require.NoError(v.t, err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == "cache" }) // what is kept stays
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}

// scrapes reads /metrics until the exporter is gone, and gives the last whole answer, if
// there was one.
func (s *server) scrapes() (last []byte) {
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for ; ; <-pace.C {
		response, err := http.Get(s.url + "/metrics")
		if err != nil {
			return last
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return last
		}
		if response.StatusCode == http.StatusOK {
			last = body
		}
	}
}

// check opens the state and compares it with itself, with what it was at the last kill,
// and with what the exporter has told.
func (v *victim) check(s *server, listened bool, scraped []byte) {
	v.t.Helper()
	opened, err := store.OpenForReading(v.state())
	if errors.Is(err, fs.ErrNotExist) && !listened && v.newest == 0 {
		return // not even that was made yet
	}
	require.NoError(v.t, err, s.log())
	defer func() { assert.NoError(v.t, opened.Close()) }()
	require.NoError(v.t, opened.Check(), s.log())

	v.checkHistories(opened)
	v.checkEvents(opened, s.log())
	v.checkCycles(opened, listened)
	v.checkScrape(scraped, opened.State().Counters)
}

// checkHistories sees that they have only grown.
func (v *victim) checkHistories(opened *store.Store) {
	v.t.Helper()
	for id := range opened.State().Pairs {
		points, err := opened.History(id, 0)
		require.NoError(v.t, err)
		before := v.histories[id]
		require.GreaterOrEqual(v.t, len(points), len(before), "the history of %v has shrunk", id)
		for i, point := range before {
			require.Equal(v.t, point, points[i], "the history of %v was rewritten", id)
		}
		v.results += len(points) - len(before)
		v.histories[id] = points
	}
	assert.GreaterOrEqual(v.t, len(opened.State().Pairs), len(v.histories), "pairs are forgotten")
}

var changed = regexp.MustCompile(`the decision has changed.* event_id=(\S+) now=(\S+)`)

// checkEvents sees that they are numbered without a gap, that each tells a change from
// the one before it of its pair, that none of those that were there at the last kill is
// missing, and none that the exporter has logged.
func (v *victim) checkEvents(opened *store.Store, log string) {
	v.t.Helper()
	events, err := opened.Events(store.EventQuery{})
	require.NoError(v.t, err)
	standing := map[store.PairID]verdict.Outcome{}
	decisions := map[string]string{}
	for i, e := range events {
		var data struct {
			Decision verdict.Outcome `json:"decision"`
			Previous verdict.Outcome `json:"previous_decision"`
		}
		require.NoError(v.t, json.Unmarshal(e.Data, &data))
		assert.EqualValues(v.t, i+1, e.Seq)
		assert.Equal(v.t, standing[e.PairID], data.Previous, "event %d of %v", e.Seq, e.PairID)
		assert.NotEqual(v.t, data.Previous, data.Decision, "event %d of %v", e.Seq, e.PairID)
		standing[e.PairID] = data.Decision
		decisions[e.ID] = string(data.Decision)
		if i < len(v.seqs) {
			assert.Equal(v.t, v.seqs[i], e.ID, "event %d is another one now", e.Seq)
		} else {
			v.seqs = append(v.seqs, e.ID)
			v.events++
		}
	}
	assert.Len(v.t, events, len(v.seqs))
	for _, line := range changed.FindAllStringSubmatch(log, -1) {
		assert.Equal(v.t, line[2], decisions[line[1]], "%s, and the state has no such event", line[0])
	}
	for id, pair := range opened.State().Pairs {
		assert.Equal(v.t, pair.Standing, standing[id], "%v", id)
	}
}

// checkCycles sees that what was interrupted by the last kill has failed for that reason,
// once, and was not run again.
func (v *victim) checkCycles(opened *store.Store, listened bool) {
	v.t.Helper()
	state := opened.State()
	var interrupted uint64
	for counter, n := range state.Counters.All() {
		if counter.Kind == store.CountFailure && counter.By == string(runner.ReasonInterrupted) {
			interrupted += n
		}
	}
	undecided := 0
	for _, c := range state.Running {
		undecided += len(c.Undecided)
		assert.LessOrEqual(v.t, len(state.Running), 1, "one cycle runs at a time")
	}
	untouched := !listened && interrupted == v.interrupted && undecided == v.undecided
	if !untouched { // else it was killed before it opened the state
		assert.Equal(v.t, v.interrupted+uint64(v.undecided), interrupted)
		for _, c := range state.Running {
			assert.Greater(v.t, c.ID, v.newest, "it was running at the last kill")
		}
	}
	if len(state.Running) > 0 && !untouched {
		v.inCycle++
	}
	v.interrupted, v.undecided = interrupted, undecided
	if newest, err := opened.Cycles(0, 1); assert.NoError(v.t, err) && len(newest) > 0 {
		v.newest = newest[0].ID
	}
}

// checkScrape sees that the state has at least what /metrics has shown, if that was asked
// for after the exporter was ready.
func (v *victim) checkScrape(scraped []byte, counters store.Counters) {
	v.t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(scraped))
	require.NoError(v.t, err)
	if families["quant_cycle_decision_total"] == nil {
		return
	}
	v.scrapes++
	for family, counter := range map[string]func(label func(string) string) store.Counter{
		"quant_cycle_decision_total": func(label func(string) string) store.Counter {
			return store.Counter{
				Kind: store.CountDecision, Model: label("model_name"),
				Source: label("source_format"), Target: label("target_format"), By: label("result"),
			}
		},
		"quant_cycle_failures_total": func(label func(string) string) store.Counter {
			return store.Counter{Kind: store.CountFailure, Model: label("model_name"), By: label("reason")}
		},
		"quant_cycle_rejections_total": func(label func(string) string) store.Counter {
			return store.Counter{Kind: store.CountRejection, Model: label("model_name"), Target: label("target_format"), By: label("gate")}
		},
		"quant_cycle_skipped_total": func(label func(string) string) store.Counter {
			return store.Counter{Kind: store.CountSkipped, Entry: label("entry"), By: label("reason")}
		},
		"quant_cycle_event_publish_failures_total": func(label func(string) string) store.Counter {
			return store.Counter{Kind: store.CountDeliveryFailure, By: label("reason")}
		},
	} {
		require.Contains(v.t, families, family)
		for _, metric := range families[family].GetMetric() {
			assert.LessOrEqual(v.t, metric.GetCounter().GetValue(), float64(counters.Of(counter(labelsOf(metric)))), "%s %v", family, metric)
		}
	}
}

func labelsOf(metric *dto.Metric) func(name string) string {
	return func(name string) string {
		for _, label := range metric.GetLabel() {
			if label.GetName() == name {
				return label.GetValue()
			}
		}
		return ""
	}
}

// live lets the exporter live after all the kills: it works, ends as it should and leaves
// nothing.
func (v *victim) live() {
	v.t.Helper()
	fakellama.Set(v.t, v.tools, fakellama.Behaviour{})
	left := v.workDirs()
	s := v.start()
	defer s.kill()
	v.listened(s, left)
	s.mustLog("run finished")
	require.Zero(v.t, s.stop(), s.log())
	v.nothingLeft()
	v.check(s, true, nil)
}
