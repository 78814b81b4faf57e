package a2a

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/logbook"
)

// script stands in for Redis, where only time and what is logged are looked at.
type script struct {
	err    error   // of every offer
	answer *answer // to every offer; nil: as a server answers that takes all
	offers []time.Time
}

func (s *script) offer(_ context.Context, o offer) (answer, error) {
	s.offers = append(s.offers, time.Now())
	if s.err != nil {
		return answer{}, s.err
	}
	if s.answer != nil {
		return *s.answer, nil
	}
	if o.Delivery == "delivered" {
		return answer{duplicate, o.Number, o.ID}, nil
	}
	return answer{added, o.Number, o.ID}, nil
}

func (s *script) close() error { return nil }

// pauses between the offers.
func (s *script) pauses() []time.Duration {
	var pauses []time.Duration
	for i := 1; i < len(s.offers); i++ {
		pauses = append(pauses, s.offers[i].Sub(s.offers[i-1]))
	}
	return pauses
}

func TestPausesAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &script{err: io.EOF}
		outbox := newMemory()
		outbox.add(1)
		stop := run(t, newRelay(bus, stream, outbox, slog.New(slog.DiscardHandler)))
		for range 20 {
			time.Sleep(longestPause)
			outbox.add(1) // does not make it more impatient
		}
		stop()

		pauses := bus.pauses()
		require.Greater(t, len(pauses), 20)
		ceiling := firstPause
		for _, pause := range pauses {
			assert.LessOrEqual(t, pause, ceiling)
			assert.Greater(t, pause, ceiling/2-time.Millisecond)
			ceiling = min(2*ceiling, longestPause)
		}
		assert.Equal(t, longestPause, ceiling)
		last := pauses[len(pauses)-5:]
		assert.NotEqual(t, last[0], last[1], "no two exporters in step")
	})
}

func TestMarkIsLookedAtNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &script{}
		outbox := newMemory()
		outbox.add(1)
		stop := run(t, newRelay(bus, stream, outbox, slog.New(slog.DiscardHandler)))
		synctest.Wait()
		require.Len(t, bus.offers, 1)
		for range 200 {
			time.Sleep(3 * time.Second)
			require.NoError(t, outbox.MarkDelivered("", 0)) // a change, and no event
			synctest.Wait()
		}
		stop()
		assert.GreaterOrEqual(t, len(bus.offers), 1+600/60)
		for _, pause := range bus.pauses() {
			assert.GreaterOrEqual(t, pause, minCheckInterval)
			assert.LessOrEqual(t, pause, maxCheckInterval)
		}
	})
}

// An event goes out when it comes, not when it is time to look.
func TestEventGoesOutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &script{}
		outbox := newMemory()
		relay := newRelay(bus, stream, outbox, slog.New(slog.DiscardHandler))
		assert.False(t, relay.Up(), "not before the first attempt")
		stop := run(t, relay)
		synctest.Wait()
		assert.True(t, relay.Up(), "also when there is nothing to publish")
		for range 10 {
			now := time.Now()
			outbox.add(1)
			synctest.Wait()
			assert.Equal(t, now, bus.offers[len(bus.offers)-1])
			time.Sleep(time.Second)
		}
		stop()
		assert.Equal(t, 10, outbox.delivered)
	})
}

// The log has a line per change, not one per attempt.
func TestLogAndStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, book, outbox := &script{}, &logbook.Book{}, newMemory()
		relay := newRelay(bus, stream, outbox, book.Logger())
		run(t, relay)
		began := time.Now()
		step := func(err error) {
			bus.err = err
			outbox.add(1)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
		}
		step(nil)
		assert.Equal(t, Status{Configured: true, Up: true, Since: began}, relay.Status())
		step(io.EOF)
		down := relay.Status()
		assert.False(t, down.Up)
		assert.Equal(t, ReasonConnection, down.Reason)
		assert.Equal(t, "EOF", down.Err)
		assert.Equal(t, began.Add(10*time.Minute), down.Since)
		step(context.DeadlineExceeded)
		assert.Equal(t, ReasonTimeout, relay.Status().Reason)
		assert.Equal(t, down.Since, relay.Status().Since)
		step(nil)
		assert.True(t, relay.Up())

		lines := strings.Split(strings.TrimSpace(book.String()), "\n")
		require.Len(t, lines, 4, book.String())
		for i, want := range []string{"level=INFO", "reason=connection", "reason=timeout", "level=INFO"} {
			assert.Contains(t, lines[i], want)
		}
		assert.Contains(t, lines[1], "advice=")
		assert.Contains(t, lines[1], "pending=1")
		assert.Greater(t, len(outbox.failures), 20)
	})
}

// A server that loses events again and again is asked again after a pause.
func TestServerThatIsBehindAgainAndAgain(t *testing.T) {
	bus, outbox := &script{answer: &answer{outcome: behind}}, newMemory()
	outbox.add(1)
	relay := newRelay(bus, stream, outbox, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, relay.attempt(t.Context(), true), errBehind)
	assert.Len(t, bus.offers, 2)
	assert.Equal(t, []string{ReasonConnection}, outbox.failures)
	assert.Equal(t, 1, outbox.State().Outbox.Pending)
}

// Even an error that the stop brings about is none.
func TestStopIsNoFailure(t *testing.T) {
	outbox := newMemory()
	relay := newRelay(&script{err: errors.New("closed")}, stream, outbox, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, relay.attempt(ctx, true))
	assert.Empty(t, outbox.failures)
}
