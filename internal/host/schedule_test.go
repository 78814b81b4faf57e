package host

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTakenIsNotWhatThreadsOfTheProcessTookOfEachOther(t *testing.T) {
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
		assert.InDelta(t, test.want, Between(before, test.after).Taken(100*ms, 100*ms), 1e-9, name)
	}
	assert.Zero(t, Between(before, before).Taken(0, 0))

	became := Between(before, Schedule{threads: map[int]thread{1: {180 * ms, 30 * ms}}, steal: 5 * ms, ok: true})
	assert.Equal(t, Interval{Ran: 80 * ms, Waited: 20 * ms, Stolen: 5 * ms}, became)
	assert.InDelta(t, 0.45, became.Taken(100*ms, 50*ms), 1e-9, "it waited for 0.4 of the time in which it was not stopped")
}
