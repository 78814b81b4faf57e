package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	// maxListeners bounds the live streams; each holds a connection.
	maxListeners = 64
	// liveInterval is the least time between two events of a stream.
	liveInterval = 250 * time.Millisecond
	// heartbeat is the longest time without a sign of life, by which both ends notice
	// that the other has gone. What sends no signal of a change (the bus) is looked at then.
	heartbeat = 10 * time.Second
	// liveWriteTimeout is how long a client may take to read an event.
	liveWriteTimeout = 20 * time.Second
)

// liveStatus is the data of an event `status` of the live stream.
type liveStatus struct {
	// Token changes when pages and the other answers of the API do, except for progress.
	Token string `json:"token"`
	// Running is nil when nothing runs.
	Running *runningView `json:"running"`
	// Cycles are those that are given to workers; absent without any.
	Cycles []*runningView `json:"cycles,omitempty"`
}

// live streams what goes on as server-sent events, until the client or the server ends.
func (s *server) live(w http.ResponseWriter, r *http.Request) {
	select {
	case s.listeners <- struct{}{}:
		defer func() { <-s.listeners }()
	default:
		w.Header().Set("Retry-After", "30")
		refuse(w, r, errorUnavailable, fmt.Sprintf("%d clients are listening already: ask for /api/v1/schedule instead, or try again later", maxListeners))
		return
	}
	changes, stop := s.Dispatcher.Watch()
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back

	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	ended := func(wait <-chan time.Time, changes <-chan struct{}) bool {
		select {
		case <-r.Context().Done():
			return true
		case <-stopping(r.Context()):
			return true
		case <-wait:
		case <-changes:
		}
		return false
	}
	for last := ""; ; {
		text := s.liveEvent()
		if text == last {
			text = ": nothing new\n\n"
		} else {
			last = text
		}
		if err := send(w, text); err != nil {
			return
		}
		if ended(time.After(liveInterval), nil) || ended(beat.C, changes) {
			return
		}
	}
}

func (s *server) liveEvent() string {
	k := s.snapshot()
	status := liveStatus{Token: s.token(k), Running: k.running()}
	for _, r := range k.status.Remote {
		status.Cycles = append(status.Cycles, k.viewRunning(r))
	}
	data, err := json.Marshal(status)
	if err != nil { // a progress that is not a number
		s.Logger.Error("the live status cannot be written", "err", err)
		return ": " + "the status cannot be written\n\n"
	}
	return "event: status\ndata: " + string(data) + "\n\n" // JSON holds no line ends
}

// send writes at once. The server's own limit is for a whole answer, and this one goes on.
func send(w http.ResponseWriter, text string) error {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(liveWriteTimeout)) // where none can be set there is none
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return control.Flush()
}

// stoppingKey is the key of the context's value which is closed when the server is to stop.
type stoppingKey struct{}

// withStopping lets requests see by their context when the server is to stop. It does not
// cancel them: most have the time to end by themselves.
func withStopping(ctx context.Context, stopping <-chan struct{}) context.Context {
	return context.WithValue(ctx, stoppingKey{}, stopping)
}

// stopping is nil, and so never ready, outside of Serve.
func stopping(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return c
}
