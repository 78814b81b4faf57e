package command

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStopTakesNoLongerWhateverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		StopAfter(ctx, StopLimit, func() { ended = true })
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.False(t, ended, "it was not to stop")
		cancel()
		time.Sleep(StopLimit - time.Nanosecond)
		synctest.Wait()
		assert.False(t, ended)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(t, ended)
	})
}
