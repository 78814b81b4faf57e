package llamacpp

import (
	"context"
	"math"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// A prompt takes as long as many bursts of generation, and so does a burst of a large model. The
// speed of a shared host changes within that: measured one after the other, two equal files
// differ by a quarter when a neighbour begins in between. So the servers take turns within it.
// One runs for a slice of time while all others are stopped by a signal, then the next one does,
// and what the host does falls on all files alike. A file that takes twice as long has slices twice as
// long, so that all of them end at about the same time and none is measured while the others rest.
// Slices begin short, so that short prompts have many, and grow, because each of them begins with
// caches that others have filled.
const (
	firstSlice = 10 * time.Millisecond
	lastSlice  = 250 * time.Millisecond
)

// shortBurst is how long a burst takes at most for which the servers need no slices.
const shortBurst = 100 * time.Millisecond

// long reports whether a file's part in a turn takes so long that the speed of the host may change
// within it.
func (r *pairedRound) long(turn runner.Turn) bool {
	return turn.Phase == verdict.Prompt || turn.Clients > 1 || slices.ContainsFunc(r.servers, func(s *server) bool {
		return s != nil && time.Duration(turn.Tokens)*s.token > shortBurst
	})
}

// mostShare bounds how much longer than others a server runs at a time.
const mostShare = 8

// shares returns, by file, how much longer a server runs at a time than the one that takes least for its
// part in a turn, as far as their warm-up shows that.
func (r *pairedRound) shares(turn runner.Turn) map[int]float64 {
	shares, least := map[int]float64{}, math.Inf(1)
	for _, i := range turn.Order {
		if s := r.servers[i]; s != nil {
			shares[i] = s.took(turn).Seconds()
			least = min(least, shares[i])
		}
	}
	for i, took := range shares {
		shares[i] = 1
		if least > 0 {
			shares[i] = min(took/least, mostShare)
		}
	}
	return shares
}

// took returns how long something took that a turn is a multiple of: the same for all servers.
func (s *server) took(turn runner.Turn) time.Duration {
	switch {
	case turn.Phase == verdict.Prompt:
		return s.prompt
	case turn.Clients > 1:
		return s.atOnce
	default:
		return s.token
	}
}

// answered is what a server made of its part in a turn.
type answered struct {
	file  int
	burst runner.Burst
	err   error
}

// sliceable reports whether every server computes where a stopped process does: on CPUs. An
// accelerator goes on with what it was given.
func (r *pairedRound) sliceable() bool {
	for _, s := range r.servers {
		if s != nil && (s.process == nil || !s.log.onCPU()) {
			return false
		}
	}
	return true
}

// slicedTurn measures a turn with all servers at once, of which one runs at a time. All of
// them run again when it returns. When the original fails, the others are given up.
func (r *pairedRound) slicedTurn(ctx context.Context, n int, turn runner.Turn, text []int32) []answered {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, found, shares := make(chan answered), []answered{}, r.shares(turn)
	unasked, left := map[int]bool{}, []int{}
	for _, i := range turn.Order {
		if s := r.servers[i]; s != nil {
			s.pauses.forget()
			defer s.resume()
			unasked[i], left = true, append(left, i)
		}
	}
	// answeredWithin takes the answers of others, too: a server may be stopped when its answer
	// is on the way already.
	answeredWithin := func(slice time.Duration, file int) bool {
		over := time.NewTimer(slice)
		defer over.Stop()
		for slices.Contains(left, file) {
			select {
			case a := <-answers:
				found = append(found, a)
				left = slices.DeleteFunc(left, func(file int) bool { return file == a.file })
				if a.file == 0 && a.err != nil {
					cancel()
				}
			case <-over.C:
				return false
			}
		}
		return true
	}
	for slice := firstSlice; len(left) > 0; slice = min(slice*11/10, lastSlice) {
		for _, i := range slices.Clone(left) {
			s := r.servers[i]
			switch {
			case !slices.Contains(left, i):
				continue
			case unasked[i]:
				unasked[i] = false
				go func() {
					burst, err := r.burst(ctx, s, n, turn, text)
					answers <- answered{i, burst, err}
				}()
			default:
				s.resume()
			}
			if !answeredWithin(time.Duration(float64(slice)*shares[i]), i) && len(left) > 1 {
				s.pause()
			}
		}
	}
	return found
}

// stopLimit bounds the wait for a process to stop. It may compute for some milliseconds after the signal,
// when a hypervisor has its core.
const stopLimit = 50 * time.Millisecond

// pause stops the process until resume lets it go on, and returns when it has stopped: until then it
// has the core that the next one needs. A process that is gone ignores both.
func (s *server) pause() {
	if s.process.Signal(unix.SIGSTOP) != nil {
		return
	}
	for limit := time.Now().Add(stopLimit); time.Now().Before(limit); {
		if s.watch.Stopped() {
			break
		}
	}
	s.pauses.begin(time.Now(), s.watch.Read())
}

func (s *server) resume() {
	s.pauses.end(time.Now())
	_ = s.process.Signal(unix.SIGCONT)
}

// pauses are the times in which a process was stopped. They are safe for concurrent use.
type pauses struct {
	mu    sync.Mutex
	stops []stop
}

type span struct{ from, to time.Time }

// stop is one of them.
type stop struct {
	span                   // to is zero while it lasts
	schedule host.Schedule // of the process, when it had stopped
}

func (p *pauses) begin(at time.Time, schedule host.Schedule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stops = append(p.stops, stop{span{from: at}, schedule})
}

func (p *pauses) end(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.stops); n > 0 && p.stops[n-1].to.IsZero() {
		p.stops[n-1].to = at
	}
}

func (p *pauses) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stops = nil
}

// lastBefore returns the last pause that was over at a time; the zero value if there was none.
func (p *pauses) lastBefore(at time.Time) stop {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range slices.Backward(p.stops) {
		if !s.to.IsZero() && !s.to.After(at) {
			return s
		}
	}
	return stop{}
}

// least returns the shortest time that the process was stopped within so much time of a span,
// wherever in it that lies, and in how many parts it ran then. A server begins a little after
// it was asked, and its answer comes a little after it has ended. Where a pause lies in
// between, the span is longer by it, although the server did nothing then.
func (p *pauses) least(whole span, d time.Duration) (stopped time.Duration, parts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := whole.to.Add(-d)
	if last.Before(whole.from) { // clocks are read one after the other
		last = whole.from
	}
	begins := []time.Time{whole.from, last}
	for _, s := range p.stops {
		begins = append(begins, s.from, s.to, s.from.Add(-d), s.to.Add(-d))
	}
	stopped = d
	for _, begin := range begins {
		if begin.Before(whole.from) || begin.After(last) {
			continue
		}
		if s, n := p.within(span{begin, begin.Add(d)}); s <= stopped {
			stopped, parts = s, n
		}
	}
	return stopped, parts
}

// within returns how much of a span the process was stopped, and in how many parts it ran.
func (p *pauses) within(whole span) (stopped time.Duration, parts int) {
	parts = 1
	for _, s := range p.stops {
		if s.to.IsZero() || s.to.After(whole.to) {
			s.to = whole.to
		}
		if s.from.Before(whole.from) {
			s.from = whole.from
		}
		if part := s.to.Sub(s.from); part > 0 {
			stopped += part
			parts++
		}
	}
	return stopped, parts
}

// peer is the process that listens on a socket. It is safe for concurrent use: a connection may
// come about when nobody waits for it any more.
type peer struct {
	mu    sync.Mutex
	known *os.Process // a handle, which still means this process after its number has been given to another
	over  bool
}

// meet notes which process a connection leads to, the first time.
func (p *peer) meet(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pid := peerOf(conn)
	if p.known != nil || p.over || pid <= 0 {
		return
	}
	if found, err := os.FindProcess(pid); err == nil {
		p.known = found
	}
}

// process returns the handle; nil if it is not known, which no connection changes then.
func (p *peer) process() *os.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.over = true
	}
	return p.known
}

// forget releases the handle.
func (p *peer) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.known != nil {
		_ = p.known.Release()
		p.known = nil
	}
}

// pidOf returns the number of a process; 0 for nil.
func pidOf(process *os.Process) int {
	if process == nil {
		return 0
	}
	return process.Pid
}
