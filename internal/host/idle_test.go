package host

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// workload is a host on which others use so many CPUs, from the moments on that are
// named, counted from its start.
type workload struct {
	start time.Time
	steps []step
}

type step struct {
	from time.Duration
	cpus float64
}

func (w workload) read() usage {
	now := time.Since(w.start)
	var busy float64
	for i, s := range w.steps {
		end := now
		if i+1 < len(w.steps) {
			end = min(end, w.steps[i+1].from)
		}
		busy += max(0, float64(end-s.from)) * s.cpus
	}
	return usage{busy: time.Duration(busy), ok: true}
}

func TestWaitIdle(t *testing.T) {
	cases := []struct {
		name  string
		steps []step
		quiet bool
		waits time.Duration
	}{
		{"idle all along", []step{{0, 0.1}}, true, 5 * time.Second},
		{"busy all along", []step{{0, 1}}, false, time.Minute},
		{"idle after a while", []step{{0, 1}, {20 * time.Second, 0}}, true, 25 * time.Second},
		{"a burst begins the window again", []step{{0, 0}, {3 * time.Second, 2}, {4 * time.Second, 0}}, true, 9 * time.Second},
		{"pauses shorter than the window", []step{{0, 1}, {20 * time.Second, 0}, {24 * time.Second, 1}, {55 * time.Second, 0}}, true, time.Minute},
		{"exactly the threshold is not idle", []step{{0, 0.2}}, false, time.Minute},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := workload{time.Now(), c.steps}
				quiet, err := waitIdle(t.Context(), w.read, time.Minute)
				require.NoError(t, err)
				assert.Equal(t, c.quiet, quiet)
				assert.Equal(t, c.waits, time.Since(w.start))
			})
		})
	}
}

func TestWaitIdleCountsStolenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		stolen := func() usage { return usage{steal: time.Since(begin), ok: true} }
		quiet, err := waitIdle(t.Context(), stolen, time.Minute)
		require.NoError(t, err)
		assert.False(t, quiet)
	})
}

func TestWaitIdleEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := workload{time.Now(), []step{{0, 1}}}
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		quiet, err := waitIdle(ctx, w.read, time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, quiet)
		assert.Equal(t, 2500*time.Millisecond, time.Since(w.start))
	})
}

func TestWaitIdleWithoutKnowledge(t *testing.T) {
	quiet, err := waitIdle(t.Context(), func() usage { return usage{} }, time.Hour)
	require.NoError(t, err)
	assert.True(t, quiet)
}
