package schedule

import "time"

// Clock is where a [Scheduler] has the time from.
type Clock interface {
	Now() time.Time
	// NewTimer sends once on the channel after d. The function stops the timer, as
	// [time.Timer.Stop] does.
	NewTimer(d time.Duration) (c <-chan time.Time, stop func() bool)
}

// SystemClock is the clock of the host.
type SystemClock struct{}

// Now is [time.Now].
func (SystemClock) Now() time.Time { return time.Now() }

// NewTimer is [time.NewTimer].
func (SystemClock) NewTimer(d time.Duration) (c <-chan time.Time, stop func() bool) {
	timer := time.NewTimer(d)
	return timer.C, timer.Stop
}
