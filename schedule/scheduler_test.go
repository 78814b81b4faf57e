package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wall is a clock whose time can be set, while its timers go on: as they do when a clock
// is set, and, the other way round, as they stop when a host is suspended. In a synctest
// bubble both only move when everybody waits.
type wall struct {
	SystemClock
	ahead atomic.Int64
}

func (w *wall) Now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *wall) jump(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *wall) set(t time.Time) { w.ahead.Store(int64(time.Until(t))) }

// memory outlives the schedulers of a test. It notes what is saved, in log.
type memory struct {
	mu     sync.Mutex
	states map[string]State
	err    error
	log    *record
}

func (m *memory) Entry(name string) (State, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.states[name]
	return s, ok
}

func (m *memory) last(name string) time.Time {
	s, _ := m.Entry(name)
	return s.Last
}

func (m *memory) SetEntry(name string, s State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.add("save %s", name)
	if m.err != nil {
		return m.err
	}
	m.states[name] = s
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// record is what happened, in order.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last call, without the lines of saving.
func (r *record) take() []string {
	var lines []string
	for _, line := range r.takeAll() {
		if !strings.HasPrefix(line, "save ") {
			lines = append(lines, line)
		}
	}
	return lines
}

func (r *record) takeAll() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// world is a host on which schedulers come and go.
type world struct {
	*wall
	*record
	memory    *memory
	scheduler *Scheduler
	logs      *strings.Builder // of the scheduler; to be read after stop
	stop      func()
}

const stamp = "01-02 15:04:05"

// newWorld begins on Monday, 2026-11-23, 12:00 UTC. It has to be in a bubble.
func newWorld() *world {
	w := &world{wall: &wall{}, record: &record{}, stop: func() {}}
	w.set(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	w.memory = &memory{states: map[string]State{}, log: w.record}
	return w
}

// start is the start of a process.
func (w *world) start(t *testing.T, entries ...Entry) {
	t.Helper()
	w.logs = &strings.Builder{}
	w.scheduler = New(Options{
		Clock:  w.wall,
		Memory: w.memory,
		Host:   "host",
		Fire: func(f Fire) {
			w.add("%s %s at %s due %s", f.Entry, f.Reason, w.Now().UTC().Format(stamp), f.Due.UTC().Format(stamp))
		},
		Missed: func(entry string, due time.Time) { w.add("%s missed due %s", entry, due.UTC().Format(stamp)) },
		Logger: slog.New(slog.NewTextHandler(w.logs, nil)),
	})
	require.NoError(t, w.scheduler.Replace(entries))
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { w.scheduler.Run(ctx) })
	w.stop = func() {
		cancel()
		done.Wait()
	}
	synctest.Wait()
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) next(name string) string {
	next, ok := w.scheduler.Next()[name]
	if !ok {
		return "none"
	}
	return next.UTC().Format(stamp)
}

func entry(name, cron string, change ...func(*Entry)) Entry {
	e := Default()
	e.Name, e.Cron, e.Timezone = name, cron, "UTC"
	for _, c := range change {
		c(&e)
	}
	return e
}

func onStart(e *Entry)     { e.RunOnStart = true }
func suspend(e *Entry)     { e.Suspend = true }
func noDeadline(e *Entry)  { e.StartingDeadline = 0 }
func withJitter(e *Entry)  { e.Jitter = model.Duration(time.Hour) }
func longJitter(e *Entry)  { e.Jitter = model.Duration(12 * time.Hour) }
func dayDeadline(e *Entry) { e.StartingDeadline = model.Duration(24 * time.Hour) }

// inWorld runs a test in a bubble with a world, and stops what it started.
func inWorld(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.stop() }()
		test(t, w)
	})
}

func TestFiresWhenDue(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("hourly", "@hourly"), entry("often", "@every 25m"), entry("quiet", "@yearly"))
		assert.Equal(t, "11-23 12:25:00", w.next("often"))
		w.pass(2*time.Hour + time.Minute)
		assert.Equal(t, []string{
			"often schedule at 11-23 12:25:00 due 11-23 12:25:00",
			"often schedule at 11-23 12:50:00 due 11-23 12:50:00",
			"hourly schedule at 11-23 13:00:00 due 11-23 13:00:00",
			"often schedule at 11-23 13:15:00 due 11-23 13:15:00",
			"often schedule at 11-23 13:40:00 due 11-23 13:40:00",
			"hourly schedule at 11-23 14:00:00 due 11-23 14:00:00",
		}, w.take())
		assert.Equal(t, "11-23 14:05:00", w.next("often"))
		assert.Equal(t, "01-01 00:00:00", w.next("quiet"))
	})
}

func TestFiresInOrderOfDueTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("b", "50 12 * * *"), entry("c", "40 12 * * *"), entry("a", "50 12 * * *"))
		w.jump(time.Hour)
		w.pass(maxWait)
		assert.Equal(t, []string{
			"c catch-up at 11-23 13:00:30 due 11-23 12:40:00",
			"b catch-up at 11-23 13:00:30 due 11-23 12:50:00",
			"a catch-up at 11-23 13:00:30 due 11-23 12:50:00",
		}, w.take())
	})
}

func TestFireIsSavedBeforeItIsMade(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("hourly", "@hourly"))
		assert.Equal(t, []string{"save hourly"}, w.takeAll(), "first seen")
		w.pass(time.Hour)
		assert.Equal(t, []string{"save hourly", "hourly schedule at 11-23 13:00:00 due 11-23 13:00:00"}, w.takeAll())
		state, _ := w.memory.Entry("hourly")
		assert.Equal(t, "0 * * * * UTC", state.Spec)
		assert.True(t, w.Now().Equal(state.Last))
	})
}

func TestFiresWhatCannotBeSaved(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("hourly", "@hourly"))
		w.memory.fail(errors.New("no space left on device"))
		w.pass(time.Hour)
		assert.Equal(t, []string{"hourly schedule at 11-23 13:00:00 due 11-23 13:00:00"}, w.take())
		w.pass(10 * time.Minute)
		assert.Empty(t, w.take(), "not again")

		w.memory.fail(nil)
		w.pass(maxWait)
		assert.Equal(t, 13, w.memory.last("hourly").Hour(), "saved when it can be")
		w.stop()
		assert.Contains(t, w.logs.String(), "entry=hourly err=\"no space left on device\"")
	})
}

func TestMissedWhileDown(t *testing.T) {
	for _, tt := range []struct {
		name  string
		entry Entry
		down  time.Duration
		want  []string
		next  string
	}{
		{
			"nothing", entry("e", "0 14 * * *"), time.Hour,
			nil, "11-23 14:00:00",
		},
		{
			"one, just within the deadline", entry("e", "0 14 * * *"), 3 * time.Hour,
			[]string{"e catch-up at 11-23 15:00:00 due 11-23 14:00:00"},
			"11-24 14:00:00",
		},
		{
			"many are made up for by one", entry("e", "*/10 * * * *"), 3*time.Hour + 5*time.Minute,
			[]string{"e catch-up at 11-23 15:05:00 due 11-23 15:00:00"},
			"11-23 15:10:00",
		},
		{
			"a moment ago", entry("e", "0 14 * * *"), 2*time.Hour + 10*time.Second,
			[]string{"e schedule at 11-23 14:00:10 due 11-23 14:00:00"},
			"11-24 14:00:00",
		},
		{
			"past the deadline", entry("e", "0 14 * * *"), 3*time.Hour + time.Second,
			[]string{"e missed due 11-23 14:00:00"},
			"11-24 14:00:00",
		},
		{
			"many, the last within the deadline", entry("e", "0 14 * * *"), 75 * time.Hour,
			[]string{"e catch-up at 11-26 15:00:00 due 11-26 14:00:00"},
			"11-27 14:00:00",
		},
		{
			"many past the deadline are counted once", entry("e", "0 14 * * *"), 77 * time.Hour,
			[]string{"e missed due 11-26 14:00:00"},
			"11-27 14:00:00",
		},
		{
			"without a deadline", entry("e", "0 14 23 * *", noDeadline), 77 * time.Hour,
			[]string{"e catch-up at 11-26 17:00:00 due 11-23 14:00:00"},
			"12-23 14:00:00",
		},
		{
			"@every counts from the fire that made up for it", entry("e", "@every 2h"), 2*time.Hour + 30*time.Minute,
			[]string{"e catch-up at 11-23 14:30:00 due 11-23 14:00:00"},
			"11-23 16:30:00",
		},
		{
			"@every counts over a restart", entry("e", "@every 2h"), 90 * time.Minute,
			nil, "11-23 14:00:00",
		},
		{
			"@every past the deadline", entry("e", "@every 1d"), 26 * time.Hour,
			[]string{"e missed due 11-24 12:00:00"},
			"11-25 12:00:00",
		},
		{
			"run_on_start", entry("e", "0 14 * * *", onStart), time.Hour,
			[]string{"e start at 11-23 13:00:00 due 11-23 13:00:00"},
			"11-23 14:00:00",
		},
		{
			"run_on_start makes up for it", entry("e", "0 14 * * *", onStart), 3 * time.Hour,
			[]string{"e start at 11-23 15:00:00 due 11-23 15:00:00"},
			"11-24 14:00:00",
		},
		{
			"run_on_start makes up for what is past its deadline", entry("e", "0 14 * * *", onStart), 5 * time.Hour,
			[]string{"e start at 11-23 17:00:00 due 11-23 17:00:00"},
			"11-24 14:00:00",
		},
		{
			"@every counts from run_on_start", entry("e", "@every 2h", onStart), 3 * time.Hour,
			[]string{"e start at 11-23 15:00:00 due 11-23 15:00:00"},
			"11-23 17:00:00",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.start(t, tt.entry) // first seen at 12:00
				w.stop()
				w.take()
				w.pass(tt.down)
				w.start(t, tt.entry)
				assert.Equal(t, tt.want, w.take())
				assert.Equal(t, tt.next, w.next("e"))
				w.stop()
				w.start(t, entry("e", tt.entry.Cron, dayDeadline))
				assert.Empty(t, w.take(), "it is settled for good")
			})
		})
	}
}

func TestFireHasItsDeadline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := entry("e", "0 13 * * *")
		it, err := newItem(e, "host")
		require.NoError(t, err)
		due := w.Now()
		assert.Equal(t, due.Add(time.Hour), it.fire(due, Schedule).Deadline)
		it.entry.StartingDeadline = 0
		assert.Zero(t, it.fire(due, Schedule).Deadline)
	})
}

// Go compares times by a clock that stands still while the host is suspended, where it
// can.
func TestGoesByTheWallClock(t *testing.T) {
	require.Contains(t, SystemClock{}.Now().String(), " m=", "a reading of that clock")
	assert.NotContains(t, New(Options{}).now().String(), " m=")
}

func TestNoticesASuspendedHostWithin30Seconds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("e", "0 13 * * *"))
		w.pass(time.Second)
		w.jump(70 * time.Minute) // as it is when the timers did not run for so long
		w.pass(maxWait)
		assert.Equal(t, []string{"e catch-up at 11-23 13:10:30 due 11-23 13:00:00"}, w.take())
	})
}

func TestClockSetForward(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("cron", "*/10 * * * *"), entry("every", "@every 10m"), entry("late", "30 12 * * *"))
		w.jump(6 * time.Hour)
		w.pass(maxWait)
		assert.Equal(t, []string{
			"late missed due 11-23 12:30:00",
			"cron schedule at 11-23 18:00:30 due 11-23 18:00:00",
			"every schedule at 11-23 18:00:30 due 11-23 18:00:00",
		}, w.take())
		assert.Equal(t, "11-23 18:10:00", w.next("cron"))
		assert.Equal(t, "11-23 18:10:30", w.next("every"))
	})
}

func TestClockSetBackALittle(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("cron", "@hourly"), entry("every", "@every 1h"))
		w.pass(time.Hour + 10*time.Minute)
		assert.Len(t, w.take(), 2, "at 13:00")
		w.jump(-30 * time.Minute) // 12:40
		w.pass(time.Minute)
		assert.Equal(t, "11-23 13:40:30", w.next("every"), "its last fire is yet to come: from when it is noticed")
		w.pass(time.Hour) // 13:41
		assert.Equal(t, []string{"every schedule at 11-23 13:40:30 due 11-23 13:40:30"}, w.take(),
			"13:00 was there before")
		w.pass(20 * time.Minute)
		assert.Equal(t, []string{"cron schedule at 11-23 14:00:00 due 11-23 14:00:00"}, w.take())
	})
}

func TestClockSetBackFar(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("cron", "@hourly"), entry("every", "@every 1h"), entry("daily", "0 3 * * *"))
		w.jump(10 * 365 * 24 * time.Hour) // a wrong clock
		w.pass(time.Minute)
		w.take()
		w.jump(-10 * 365 * 24 * time.Hour)
		w.pass(time.Minute) // 12:02
		assert.Empty(t, w.take(), "nothing is due by that")
		assert.Equal(t, "11-23 13:00:00", w.next("cron"))
		assert.Equal(t, "11-23 13:01:30", w.next("every"))
		assert.Equal(t, "11-24 03:00:00", w.next("daily"))
		w.stop()
		w.pass(time.Hour)
		w.start(t, entry("cron", "@hourly"))
		assert.Equal(t, []string{"cron catch-up at 11-23 13:02:00 due 11-23 13:00:00"}, w.take(), "it was saved, too")
	})
}

func TestStateFromTheFuture(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.memory.states["e"] = State{Spec: "@every 1h", Last: w.Now().Add(1000 * time.Hour)}
		w.start(t, entry("e", "@every 1h"))
		assert.Equal(t, "11-23 13:00:00", w.next("e"))
	})
}

func TestChangedSpecStartsAfresh(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Entry)
		next   string
	}{
		{"cron", func(e *Entry) { e.Cron = "30 14 * * *" }, "11-24 14:30:00"},
		{"timezone", func(e *Entry) { e.Timezone = "Etc/GMT+1" }, "11-24 15:00:00"},
		{"@every", func(e *Entry) { e.Cron = "@every 3h" }, "11-23 18:15:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.start(t, entry("e", "0 14 * * *"))
				w.stop()
				w.pass(3*time.Hour + 15*time.Minute)
				w.start(t, entry("e", "0 14 * * *", dayDeadline, tt.change))
				assert.Empty(t, w.take(), "14:00 was another spec's")
				assert.Equal(t, tt.next, w.next("e"))
			})
		})
	}
}

func TestSuspendedIsNeverDueNorMadeUpFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("e", "@hourly", suspend, onStart))
		assert.Equal(t, "none", w.next("e"))
		w.pass(2*time.Hour + 30*time.Minute)
		require.NoError(t, w.scheduler.Replace([]Entry{entry("e", "@hourly", onStart)}))
		synctest.Wait()
		assert.Empty(t, w.take())
		assert.Equal(t, "11-23 15:00:00", w.next("e"))

		require.NoError(t, w.scheduler.Replace([]Entry{entry("e", "@hourly", suspend)}))
		w.pass(time.Hour)
		w.stop()
		w.start(t, entry("e", "@hourly"))
		assert.Empty(t, w.take(), "nor over a restart")
	})
}

func TestReplace(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("same", "@every 1h"), entry("changed", "@every 1h"), entry("removed", "@every 1h"))
		w.pass(40 * time.Minute)
		require.NoError(t, w.scheduler.Replace([]Entry{
			entry("new", "@every 1h", onStart),
			entry("same", "@every 60m", dayDeadline),
			entry("changed", "@every 30m"),
		}))
		synctest.Wait()
		assert.Empty(t, w.take(), "run_on_start is for the start of the process")
		assert.Equal(t, "11-23 13:00:00", w.next("same"))
		assert.Equal(t, "11-23 13:10:00", w.next("changed"))
		assert.Equal(t, "11-23 13:40:00", w.next("new"))
		assert.Equal(t, "none", w.next("removed"))
		w.pass(25 * time.Minute)
		assert.Equal(t, []string{"same schedule at 11-23 13:00:00 due 11-23 13:00:00"}, w.take())

		w.pass(5 * time.Hour)
		require.NoError(t, w.scheduler.Replace([]Entry{entry("removed", "@every 1h")}))
		w.take()
		w.pass(time.Minute)
		assert.Empty(t, w.take(), "it was forgotten, and is new")
		assert.Equal(t, "11-23 19:05:00", w.next("removed"))
	})
}

func TestReplaceIsNoticedAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t)
		w.pass(time.Second)
		require.NoError(t, w.scheduler.Replace([]Entry{entry("soon", "@every 1s")}))
		w.pass(time.Second)
		assert.Equal(t, []string{"soon schedule at 11-23 12:00:02 due 11-23 12:00:02"}, w.take())
	})
}

func TestReplaceChangesNothingIfAnythingIsInvalid(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("e", "@hourly"))
		err := w.scheduler.Replace([]Entry{
			entry("fine", "@hourly"), entry("bad", "*/100 * * * *"), entry("twice", "@daily"), entry("twice", "@daily"),
		})
		require.ErrorContains(t, err, `entry "bad": cron: "*/100 * * * *"`)
		require.ErrorContains(t, err, `two entries have the name "twice"`)
		assert.Equal(t, map[string]time.Time{"e": time.Date(2026, 11, 23, 13, 0, 0, 0, time.UTC)}, w.scheduler.Next())
	})
}

func TestRunOnStartWaitsForTheFirstEntries(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		fired := 0
		s := New(Options{Memory: w.memory, Fire: func(Fire) { fired++ }})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		synctest.Wait()
		require.NoError(t, s.Replace([]Entry{entry("e", "@hourly", onStart)}))
		synctest.Wait()
		assert.Equal(t, 1, fired)
		require.NoError(t, s.Replace([]Entry{entry("e", "@daily", onStart)}))
		synctest.Wait()
		assert.Equal(t, 1, fired)
	})
}

func TestJitterDelaysWithoutChangingWhatIsDue(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		cron, every := entry("cron", "0 13 * * *", withJitter), entry("every", "@every 2h", withJitter)
		j, k := jitter(cron, "host"), jitter(every, "host")
		require.Positive(t, j)
		require.Positive(t, k)
		start := w.Now().UTC()
		w.start(t, cron, every)
		w.pass(j + time.Hour - time.Millisecond)
		assert.NotContains(t, strings.Join(w.take(), " "), "cron")
		w.stop()
		w.pass(time.Minute)
		w.start(t, cron, every) // 13:00 and the jitter are over
		due := start.Add(time.Hour + j).Format(stamp)
		now := w.Now().UTC().Format(stamp)
		assert.Equal(t, []string{fmt.Sprintf("cron catch-up at %s due %s", now, due)}, w.take())
		assert.True(t, w.memory.last("cron").Equal(start.Add(time.Hour)), "what was due is 13:00")
		w.pass(24 * time.Hour)
		var times []string
		for _, line := range w.take() {
			if rest, ok := strings.CutPrefix(line, "every schedule at "); ok {
				times = append(times, rest[:len(stamp)])
			}
		}
		require.Greater(t, len(times), 10)
		for i, got := range times {
			assert.Equal(t, start.Add(time.Duration(i+1)*2*time.Hour+k).Format(stamp), got, "the period stays")
		}
	})
}

func TestJitterLongerThanTheDeadlineIsNoMiss(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := entry("e", "0 13 * * *", longJitter)
		j := jitter(e, "host")
		require.Greater(t, j, 2*time.Hour, "longer than the deadline")
		due := w.Now().Add(time.Hour + j).UTC().Format(stamp)
		w.start(t, e)
		w.pass(13 * time.Hour)
		assert.Equal(t, []string{fmt.Sprintf("e schedule at %s due %s", due, due)}, w.take())
	})
}

func TestJitterSpreads(t *testing.T) {
	e := entry("e", "@daily", withJitter)
	assert.Equal(t, 54*time.Minute+12919*time.Millisecond, jitter(e, "a"), "the same in every process, and in every version")
	assert.Zero(t, jitter(entry("e", "@daily"), "a"))
	var quarters [4]int
	for i := range 1000 {
		j := jitter(e, fmt.Sprintf("host-%d", i))
		quarters[j/(15*time.Minute)]++ // below an hour, or it panics
	}
	for _, n := range quarters {
		assert.InDelta(t, 250, n, 60)
	}
	assert.NotEqual(t, jitter(entry("a", "@daily", withJitter), ""), jitter(entry("b", "@daily", withJitter), ""))
}

func TestUpcoming(t *testing.T) {
	from := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	e := entry("e", "0 3 * * *")
	assert.Equal(t, []time.Time{from.Add(15 * time.Hour), from.Add(39 * time.Hour)}, Upcoming(e, "host", from, 2))
	assert.Equal(t, []time.Time{from.Add(time.Hour)}, Upcoming(entry("e", "@every 1h"), "host", from, 1))

	e = entry("e", "0 3 * * *", longJitter)
	j := jitter(e, "host")
	due := from.Add(15*time.Hour + j)
	assert.Equal(t, []time.Time{due}, Upcoming(e, "host", due.Add(-1), 1), "delayed, not over")
	assert.Equal(t, []time.Time{due.Add(24 * time.Hour)}, Upcoming(e, "host", due, 1))

	assert.Empty(t, Upcoming(entry("e", "0 3 * * *", suspend), "host", from, 3))
	assert.Empty(t, Upcoming(entry("e", "0 0 30 2 *"), "host", from, 3))
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, entry("a", "@every 1s"), entry("b", "@every 1s", withJitter))
		var users sync.WaitGroup
		for i := range 4 {
			users.Go(func() {
				for n := range 50 {
					time.Sleep(100 * time.Millisecond)
					if i == 0 {
						assert.NoError(t, w.scheduler.Replace([]Entry{entry("a", "@every 1s"), entry("b", fmt.Sprintf("@every %ds", 1+n%2))}))
					}
					w.scheduler.Next()
				}
			})
		}
		users.Wait()
		synctest.Wait()
		fired := 0
		for _, line := range w.take() {
			if strings.HasPrefix(line, "a ") {
				fired++
			}
		}
		assert.Equal(t, 5, fired, "a is the same all the time")
	})
}

func BenchmarkAtRest(b *testing.B) {
	entries := make([]Entry, 1000)
	for i := range entries {
		entries[i] = entry(fmt.Sprintf("entry-%d", i), "@yearly", withJitter)
	}
	s := New(Options{Memory: &memory{states: map[string]State{}, log: &record{}}, Fire: func(Fire) {}})
	require.NoError(b, s.Replace(entries))
	s.pass(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		s.pass(b.Context())
	}
}
