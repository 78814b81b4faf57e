package process

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWithTimeout(t *testing.T) {
	long := errors.New("too long")
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := WithTimeout(t.Context(), 3*time.Hour, long)
		defer cancel()
		<-ctx.Done()
		require.Equal(t, long, context.Cause(ctx))
		assert.InDelta(t, 3*time.Hour, time.Since(begin), float64(2*mostTick))
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := WithTimeout(t.Context(), time.Hour, long)
		cancel() // which ends the counting
		require.ErrorIs(t, context.Cause(ctx), context.Canceled)
	})
}
