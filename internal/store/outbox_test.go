package store

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// flip changes the standing decision of a pair of m, and thereby makes an event.
func flip(t testing.TB, s *Store, target string) *Event {
	t.Helper()
	outcome := verdict.Kept
	if p := s.State().Pairs[PairID{Model: "m", Target: target}]; p != nil && p.Standing == verdict.Kept {
		outcome = verdict.Rejected
	}
	committed := record(t, s, decided("m", target, outcome))
	require.True(t, committed.Changed)
	return committed.Event
}

func pending(t testing.TB, s *Store) []Event {
	t.Helper()
	events, err := s.NextPending(0)
	require.NoError(t, err)
	return events
}

// numbers of the events, all of one producer.
func numbers(t testing.TB, producer string, events []Event) []uint64 {
	t.Helper()
	var ns []uint64
	for _, e := range events {
		assert.Equal(t, producer, e.Producer)
		ns = append(ns, e.Number)
	}
	return ns
}

func signalled(s *Store) bool {
	select {
	case <-s.Changed():
		return true
	default:
		return false
	}
}

func TestEventsAreHeldUntilThereIsABus(t *testing.T) {
	clock := &clock{start()}
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	flip(t, s, "Q2_K")
	flip(t, s, "Q4_K_M")
	clock.now = start().Add(time.Hour)
	flip(t, s, "Q2_K")
	flip(t, s, "Q8_0")
	assert.Equal(t, OutboxState{Producer: s.State().Outbox.Producer, Held: 4}, s.State().Outbox)
	assert.Empty(t, pending(t, s))
	assert.False(t, signalled(s))

	require.NoError(t, s.SetBus(false))
	assert.Equal(t, 4, s.State().Outbox.Held)
	require.NoError(t, s.SetBus(true))
	assert.True(t, signalled(s))
	producer := s.State().Outbox.Producer
	assert.Equal(t, OutboxState{Producer: producer, Pending: 3, OldestPending: start()}, s.State().Outbox)
	var deliveries []Delivery
	events, err := s.Events(EventQuery{})
	require.NoError(t, err)
	for _, e := range events {
		deliveries = append(deliveries, e.Delivery)
	}
	assert.Equal(t, []Delivery{Superseded, Pending, Pending, Pending}, deliveries)
	assert.Equal(t, []uint64{1, 2, 3}, numbers(t, producer, pending(t, s)))
	require.NoError(t, s.Check())

	// From now on events are for the bus, configured or not.
	require.NoError(t, s.SetBus(false))
	e := flip(t, s, "Q2_K")
	assert.Equal(t, Pending, e.Delivery)
	assert.Equal(t, uint64(4), e.Number)
	assert.True(t, signalled(s))
	before := s.State()
	require.NoError(t, s.SetBus(true))
	assert.Same(t, before, s.State())
}

func TestDelivery(t *testing.T) {
	clock := &clock{start()}
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true, Now: clock.Now})
	producer := s.State().Outbox.Producer
	for i := range 5 {
		clock.now = start().Add(time.Duration(i) * time.Minute)
		flip(t, s, "Q2_K")
	}
	assert.True(t, signalled(s))
	assert.False(t, signalled(s), "one for all five")
	first, err := s.NextPending(2)
	require.NoError(t, err)
	assert.Equal(t, []uint64{1, 2}, numbers(t, producer, first))

	require.NoError(t, s.MarkDelivered(producer, 2))
	assert.Equal(t, OutboxState{Producer: producer, Pending: 3, OldestPending: start().Add(2 * time.Minute)}, s.State().Outbox)
	assert.Equal(t, uint64(2), s.State().Delivered())
	before := s.State()
	require.NoError(t, s.MarkDelivered(producer, 2))
	require.NoError(t, s.MarkDelivered("somebody", 9))
	assert.Same(t, before, s.State())

	require.NoError(t, s.MarkDelivered(producer, 3))
	assert.Equal(t, uint64(3), s.State().Delivered())

	from, err := s.From(producer, 2, 3)
	require.NoError(t, err)
	assert.Equal(t, []uint64{2, 3, 4}, numbers(t, producer, from))
	assert.Equal(t, clock.now, *from[0].Delivered)
	oldest, newest, ok, err := s.Window(producer)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, []uint64{1, 5}, numbers(t, producer, []Event{oldest, newest}))
	_, _, ok, err = s.Window("somebody")
	require.NoError(t, err)
	assert.False(t, ok)
	after, err := s.Events(EventQuery{After: 3, Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, []uint64{4}, numbers(t, producer, after))
	second, err := s.Events(EventQuery{After: 2, Limit: 1, Delivery: Delivered})
	require.NoError(t, err)
	assert.Equal(t, []uint64{3}, numbers(t, producer, second), "one that was passed over does not count")
	none, err := s.Events(EventQuery{After: math.MaxUint64})
	require.NoError(t, err)
	assert.Empty(t, none)

	before = s.State()
	s = reopen(t, s, dir, Options{Bus: true})
	assert.Equal(t, before, s.State())
	assert.True(t, signalled(s), "what is pending at the start")
	require.NoError(t, s.MarkDelivered(producer, 5))
	assert.Equal(t, OutboxState{Producer: producer}, s.State().Outbox)
}

func TestNewProducerRenumbersWhatIsPending(t *testing.T) {
	s := open(t, t.TempDir(), Options{Bus: true})
	old := s.State().Outbox.Producer
	for range 4 {
		flip(t, s, "Q2_K")
	}
	require.NoError(t, s.MarkDelivered(old, 2))
	ids := []string{pending(t, s)[0].ID, pending(t, s)[1].ID}
	signalled(s)
	require.NoError(t, s.NewProducer("the mark is above ours"))
	assert.True(t, signalled(s))
	producer := s.State().Outbox.Producer
	assert.NotEqual(t, old, producer)
	flip(t, s, "Q2_K")
	events := pending(t, s)
	assert.Equal(t, []uint64{1, 2, 3}, numbers(t, producer, events))
	assert.Equal(t, ids[0], events[0].ID)
	assert.Equal(t, ids[1], events[1].ID)
	_, newest, _, err := s.Window(old)
	require.NoError(t, err)
	assert.Equal(t, uint64(2), newest.Number)
	require.NoError(t, s.Check())
}

func TestProducers(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	check := func(want ...string) {
		t.Helper()
		producers, err := s.Producers()
		require.NoError(t, err)
		assert.Equal(t, want, producers)
	}
	flip(t, s, "Q2_K")
	check() // it is held
	require.NoError(t, s.SetBus(true))
	names := []string{s.State().Outbox.Producer}
	check(names...)
	for range 5 { // their names are at random, their order is not
		flip(t, s, "Q2_K")
		require.NoError(t, s.MarkDelivered(s.State().Outbox.Producer, 99))
		require.NoError(t, s.NewProducer("of the test"))
		check(names...)
		flip(t, s, "Q2_K")
		names = append(names, s.State().Outbox.Producer)
		check(names...)
	}
	// One of which all is pending gives it away.
	require.NoError(t, s.NewProducer("of the test"))
	check(append(names[:5:5], s.State().Outbox.Producer)...)
}

// What is pending goes to the new producer, under whatever name it was.
func TestNewProducerTakesAllThatIsPending(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true})
	for range 3 {
		flip(t, s, "Q2_K")
	}
	require.NoError(t, s.MarkDelivered(s.State().Outbox.Producer, 1))
	backup := filepath.Join(t.TempDir(), fileName)
	require.NoError(t, s.BackupFile(backup))
	copied := open(t, filepath.Dir(backup), Options{Bus: true})
	flip(t, copied, "Q2_K")
	before, err := copied.Events(EventQuery{After: 1})
	require.NoError(t, err)
	require.NotEqual(t, before[0].Producer, before[2].Producer)

	require.NoError(t, copied.NewProducer("another is at the mark"))
	after := pending(t, copied)
	assert.Equal(t, []uint64{1, 2, 3}, numbers(t, copied.State().Outbox.Producer, after))
	for i := range after {
		assert.Equal(t, before[i].ID, after[i].ID)
	}
	require.NoError(t, copied.Check())
}

// A copy goes on under a new producer; what was pending keeps its name.
func TestCopiesHaveANewProducer(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Bus: true})
	old := s.State().Outbox.Producer
	flip(t, s, "Q2_K")
	flip(t, s, "Q2_K")
	var written bytes.Buffer
	n, err := s.Backup(&written)
	require.NoError(t, err)
	assert.Equal(t, int64(written.Len()), n)
	backup := filepath.Join(t.TempDir(), "backup.db")
	require.NoError(t, s.BackupFile(backup))
	require.ErrorIs(t, s.BackupFile(backup), fs.ErrExist)
	require.ErrorContains(t, s.BackupFile(filepath.Join(dir, "missing", "backup.db")), "missing")
	flip(t, s, "Q2_K")
	require.NoError(t, s.Close())
	raw, err := os.ReadFile(filepath.Join(dir, fileName))
	require.NoError(t, err)
	marked, err := os.ReadFile(backup)
	require.NoError(t, err)
	for _, d := range []string{dir, filepath.Dir(backup)} {
		left, err := filepath.Glob(filepath.Join(d, ".*"))
		require.NoError(t, err)
		assert.Empty(t, left)
	}

	for name, c := range map[string]struct {
		content []byte
		pending int
	}{"Backup": {written.Bytes(), 2}, "BackupFile": {marked, 2}, "copied file": {raw, 3}} {
		restored := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(restored, fileName), c.content, 0o600))
		copied := open(t, restored, Options{Bus: true})
		producer := copied.State().Outbox.Producer
		assert.NotEqual(t, old, producer, name)
		e := flip(t, copied, "Q4_K_M")
		assert.Equal(t, producer, e.Producer)
		assert.Equal(t, uint64(1), e.Number)
		assert.Len(t, pending(t, copied), c.pending, "only the old producer's")
		numbers(t, old, pending(t, copied))
		require.NoError(t, copied.MarkDelivered(old, 99))
		assert.Equal(t, []uint64{1}, numbers(t, producer, pending(t, copied)))
		copied = reopen(t, copied, restored, Options{Bus: true})
		assert.Equal(t, producer, copied.State().Outbox.Producer, "%s: once", name)
	}

	// Restored over the very file: known by its mark alone.
	require.NoError(t, os.WriteFile(filepath.Join(dir, fileName), marked, 0o600))
	assert.NotEqual(t, old, open(t, dir, Options{}).State().Outbox.Producer)
}

func TestDeliveredEventsGoAfterTheirWindow(t *testing.T) {
	clock := &clock{start()}
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	flip(t, s, "Q2_K")
	flip(t, s, "Q2_K")
	require.NoError(t, s.SetBus(true)) // one superseded, one pending
	producer := s.State().Outbox.Producer
	for range 3 {
		flip(t, s, "Q2_K")
	}
	require.NoError(t, s.MarkDelivered(producer, 3))
	seqs := func() (seqs []uint64) {
		events, err := s.Events(EventQuery{})
		require.NoError(t, err)
		for _, e := range events {
			seqs = append(seqs, e.Seq)
		}
		return seqs
	}
	clock.now = start().Add(settledWindow)
	flip(t, s, "Q2_K")
	assert.Equal(t, []uint64{1, 2, 3, 4, 5, 6}, seqs())
	clock.now = start().Add(settledWindow + time.Second)
	record(t, s, decided("m", "Q2_K", verdict.Inconclusive))
	assert.Equal(t, []uint64{4, 5, 6}, seqs(), "the newest delivered one and the pending")
	oldest, newest, _, err := s.Window(producer)
	require.NoError(t, err)
	assert.Equal(t, []uint64{3, 5}, numbers(t, producer, []Event{oldest, newest}))
	require.NoError(t, s.Check())
	assert.Equal(t, uint64(3), s.State().Delivered())
}

func TestDeliveredEventsGoBeyondTheirNumber(t *testing.T) {
	s := open(t, t.TempDir(), Options{Bus: true})
	assert.Equal(t, 10_000, s.window)
	s.window = 5
	const all = 5 + 3*maxPruned
	for range all {
		flip(t, s, "Q2_K")
	}
	producer := s.State().Outbox.Producer
	oldest := func() uint64 {
		first, newest, _, err := s.Window(producer)
		require.NoError(t, err)
		assert.Equal(t, uint64(all), newest.Number)
		return first.Number
	}
	assert.Equal(t, uint64(1), oldest(), "pending ones stay")
	require.NoError(t, s.MarkDelivered(producer, all))
	assert.Equal(t, uint64(2*maxPruned+1), oldest(), "a bounded number at once")
	require.NoError(t, s.MarkDelivered(producer, all))
	assert.Equal(t, uint64(all-5+1), oldest())
}
