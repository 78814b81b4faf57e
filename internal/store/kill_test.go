package store

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

var kills = flag.Int("kills", 30, "how often TestKilledAtAnyMoment kills a process that stores")

// The child keeps this many results of each kind.
const keptCycles = 4

// commitUntilKilled does what an exporter and its relay do, at random and as fast as it
// can, and says on standard output what the store has acknowledged.
func commitUntilKilled(dir string) error {
	fmt.Println("opening")
	s, err := Open(dir, Options{Bus: rand.IntN(3) > 0, Retention: config.Retention{Cycles: keptCycles}})
	if err != nil {
		return err
	}
	s.window = 5
	fmt.Println("opened")
	targets := []string{"Q2_K", "Q4_K_M", "Q8_0"}
	for {
		model := []string{"m", "n"}[rand.IntN(2)]
		rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
		n := 1 + rand.IntN(len(targets))
		id, err := s.BeginCycle(Cycle{Entry: "nightly", Model: model, Targets: targets[:n]})
		if err != nil {
			return err
		}
		fmt.Println("begun", id)
		for _, target := range targets[:rand.IntN(n+1)] {
			r := decided(model, target, []verdict.Outcome{verdict.Kept, verdict.Rejected, verdict.Inconclusive}[rand.IntN(3)])
			kind := "decided"
			if rand.IntN(4) == 0 {
				r, kind = failed(model, target, runner.ReasonCrash), "failed"
			}
			with(r, 1+rand.IntN(3), strings.Repeat("1", 1+rand.IntN(2)))
			r.Evidence.Hardware = strings.Repeat("x", rand.IntN(20_000)) // several pages, at times
			if _, err := s.Commit(id, r); err != nil {
				return err
			}
			fmt.Println("committed", id, model, target, kind)
		}
		if err := errors.Join(s.EndCycle(id, nil), relay(s)); err != nil {
			return err
		}
	}
}

// relay does at random what the relay and an operator do.
func relay(s *Store) error {
	switch rand.IntN(12) {
	case 0:
		return s.NewProducer("at random")
	case 1:
		return s.SetBus(true)
	case 2:
		_, err := s.Backup(io.Discard)
		return err
	case 3:
		return s.RememberHash(model.FileID{Inode: rand.Uint64N(10)}, "abc")
	case 4, 5:
		return nil
	}
	events, err := s.NextPending(1 + rand.IntN(5))
	if err != nil || len(events) == 0 {
		return err
	}
	last := events[len(events)-1]
	return s.MarkDelivered(last.Producer, last.Number)
}

// Whenever the process is killed: everything that it was told is stored is there, once, and
// nothing contradicts itself.
func TestKilledAtAnyMoment(t *testing.T) {
	program.NotShort(t)
	dir := t.TempDir()
	acknowledged := 0
	for i := range *kills {
		if i%10 == 0 { // the making of a state is among the moments
			dir = filepath.Join(t.TempDir(), "state")
		}
		acknowledged += assertAcknowledged(t, dir, killAtRandom(t, dir), fmt.Sprintf("kill %d", i))
	}
	t.Logf("%d kills, %d acknowledged commits", *kills, acknowledged)
	assert.Greater(t, acknowledged, *kills, "the children must get somewhere")
}

// killAtRandom runs the child and kills it, and gives the lines that it has written.
func killAtRandom(t *testing.T, dir string) []string {
	t.Helper()
	child := childCommand("kill", dir)
	child.Stderr = os.Stderr
	lines := storeUntil(t, child, 4*time.Millisecond, func() { require.NoError(t, child.Process.Kill()) })
	_ = child.Wait()
	require.Equal(t, "signal: killed", child.ProcessState.String(), "%q", lines)
	return lines
}

// storeUntil runs the child, which stores, until end ends it, soon after it has said something, and
// gives the lines that it has written.
func storeUntil(t *testing.T, child *exec.Cmd, soon time.Duration, end func()) (lines []string) {
	t.Helper()
	said := program.Lines(t, child)
	for range 1 + rand.IntN(30) {
		line, ok := <-said
		require.True(t, ok, "the child ended by itself: %q", lines)
		lines = append(lines, line)
	}
	<-time.After(rand.N(soon)) // into whatever it does next
	end()
	for line := range said {
		lines = append(lines, line)
	}
	return lines
}

// assertAcknowledged looks into the state that a child has left, wherever it ended: every commit of
// its lines is there, once, and nothing contradicts itself. It returns how many these are.
func assertAcknowledged(t *testing.T, dir string, lines []string, when string) (acknowledged int) {
	t.Helper()
	s, err := Open(dir, Options{Retention: config.Retention{Cycles: keptCycles}})
	require.NoError(t, err)
	require.NoError(t, s.Check(), when)
	assert.Empty(t, s.State().Running)
	for _, line := range lines {
		acknowledged += acknowledgedIsThere(t, s, line)
	}
	require.NoError(t, s.Close())
	return acknowledged
}

// acknowledgedIsThere checks one line of the child, and says how many commits it tells.
func acknowledgedIsThere(t *testing.T, s *Store, line string) int {
	t.Helper()
	var id uint64
	var model, target, kind string
	if _, err := fmt.Sscanf(line, "committed %d %s %s %s", &id, &model, &target, &kind); err != nil {
		return 0
	}
	_, records, _, err := s.Cycle(id)
	require.NoError(t, err)
	for _, r := range records {
		if r.TargetFormat == target {
			assert.Equal(t, model, r.Model)
			return 1
		}
	}
	// Then newer ones have pushed it out.
	decided, failed := history(t, s, PairID{Model: model, Target: target})
	newer := decided
	if kind == "failed" {
		newer = failed
	}
	require.GreaterOrEqual(t, len(newer), keptCycles, line)
	assert.Greater(t, newer[0], id, line)
	return 1
}
