package command

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStopTakesNoLongerWhateverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var ended atomic.Bool
		StopAfter(ctx, StopLimit, func() { ended.Store(true) })
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.False(t, ended.Load(), "it was not to stop")
		cancel()
		time.Sleep(StopLimit - time.Nanosecond)
		synctest.Wait()
		assert.False(t, ended.Load())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(t, ended.Load())
	})
}
