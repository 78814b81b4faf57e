// Command neighbour is the busy neighbour of the benchmarks: a process that takes one
// CPU for a while, rests for a while, and so on, until it is stopped, or the process that
// started it is gone.
//
//	go run ./scripts/neighbour --seed 1 --busy-min 1s --busy-max 3s --idle-min 0s --idle-max 2s
//
// The lengths are drawn uniformly from the two ranges, from a seeded generator: the same
// seed gives the same sequence, though not the same phase against whatever it disturbs.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	seed := flag.Uint64("seed", 1, "seed of the sequence of busy and idle spells")
	busyMin := flag.Duration("busy-min", time.Second, "shortest busy spell")
	busyMax := flag.Duration("busy-max", 3*time.Second, "longest busy spell")
	idleMin := flag.Duration("idle-min", 0, "shortest idle spell")
	idleMax := flag.Duration("idle-max", 2*time.Second, "longest idle spell")
	flag.Parse()

	busy, err := newSpell("busy", *busyMin, *busyMax)
	if err != nil {
		fail(err)
	}
	idle, err := newSpell("idle", *idleMin, *idleMax)
	if err != nil {
		fail(err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	disturb(ctx, rand.New(rand.NewPCG(*seed, 0)), busy, idle)
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "neighbour: %v\n", err)
	os.Exit(2)
}

// disturb is busy and idle in turn, starting busy, until ctx is done or nobody waits for it: a
// benchmark that was killed leaves it running.
func disturb(ctx context.Context, random *rand.Rand, busy, idle spell) {
	for parent := os.Getppid(); ctx.Err() == nil && os.Getppid() == parent; {
		spin(ctx, busy.draw(random))

		select {
		case <-ctx.Done():
		case <-time.After(idle.draw(random)):
		}
	}
}

// spin keeps one CPU busy for the time given, by the wall clock, or until ctx is done.
func spin(ctx context.Context, length time.Duration) {
	x := 1.0
	for end := time.Now().Add(length); time.Now().Before(end) && ctx.Err() == nil; {
		for range 100_000 {
			x = x*1.0000001 + 1e-9
		}
	}
	if x < 0 { // never: it keeps the loop from being optimised away
		fmt.Fprintln(os.Stderr, x)
	}
}

// spell is a range of lengths of time.
type spell struct{ low, high time.Duration }

func newSpell(name string, low, high time.Duration) (spell, error) {
	if low < 0 || high < low {
		return spell{}, fmt.Errorf("--%s-min %v and --%s-max %v: give 0 <= min <= max", name, low, name, high)
	}
	return spell{low, high}, nil
}

func (s spell) draw(random *rand.Rand) time.Duration {
	return s.low + time.Duration(random.Float64()*float64(s.high-s.low))
}
