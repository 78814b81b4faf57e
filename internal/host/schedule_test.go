package host

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLossIsNotWhatThreadsOfTheProcessTookOfEachOther(t *testing.T) {
	const ms = time.Millisecond
	before := Schedule{threads: map[int]thread{1: {running: 100 * ms, waiting: 10 * ms}, 2: {running: 1 * ms}}, ok: true}
	for name, test := range map[string]struct {
		after Schedule
		want  float64
	}{
		"nothing": {Schedule{threads: map[int]thread{1: {200 * ms, 10 * ms}, 2: {1 * ms, 0}}, ok: true}, 0},
		"the thread that computes waits": {
			Schedule{threads: map[int]thread{1: {180 * ms, 30 * ms}, 2: {1 * ms, 0}}, ok: true}, 0.2,
		},
		"one that logs waits for the one that computes": {
			Schedule{threads: map[int]thread{1: {200 * ms, 10 * ms}, 2: {2 * ms, 50 * ms}}, ok: true}, 0,
		},
		"the one that computes waits for one that logs": {
			Schedule{threads: map[int]thread{1: {180 * ms, 22 * ms}, 2: {11 * ms, 50 * ms}}, ok: true}, 0.02,
		},
		"one of two that compute waits": {
			Schedule{threads: map[int]thread{1: {190 * ms, 10 * ms}, 2: {61 * ms, 40 * ms}}, ok: true}, 0.4,
		},
		"a new thread":    {Schedule{threads: map[int]thread{1: {150 * ms, 10 * ms}, 3: {50 * ms, 50 * ms}}, ok: true}, 0.5},
		"another machine": {Schedule{threads: map[int]thread{1: {190 * ms, 10 * ms}}, steal: 10 * ms, ok: true}, 0.1},
		"both, of more than there was": {
			Schedule{threads: map[int]thread{1: {110 * ms, 90 * ms}}, steal: 50 * ms, ok: true}, 1,
		},
		"nothing is known": {Schedule{}, 0},
	} {
		assert.InDelta(t, test.want, Lost(before, test.after, 100*ms, 100*ms).Taken(), 1e-9, name)
	}
	assert.Zero(t, Lost(before, before, 0, 0))

	loss := Lost(before, Schedule{threads: map[int]thread{1: {180 * ms, 30 * ms}}, steal: 5 * ms, ok: true}, 100*ms, 50*ms)
	assert.InDelta(t, 0.4, loss.Waited, 1e-9, "of the time in which it was not stopped")
	assert.InDelta(t, 0.05, loss.Stolen, 1e-9)
}
