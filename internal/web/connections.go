package web

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// maxConnections of a listener: far more than scrapers and browsers need, and far fewer than
// the descriptors that a process has.
const maxConnections = 256

// connections bounds how many are open: where one comes that is too many, the one goes that
// has waited for longest, before its first request or between two. Its method is safe for
// concurrent use.
type connections struct {
	limit int

	mu      sync.Mutex
	open    map[net.Conn]bool
	waiting []net.Conn // the longest first
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: map[net.Conn]bool{}}
}

// state receives every change: see http.Server.ConnState.
func (c *connections) state(conn net.Conn, state http.ConnState) {
	if idle := c.note(conn, state); idle != nil {
		_ = idle.Close()
	}
}

// note gives the connection that has to go; nil for none.
func (c *connections) note(conn net.Conn, state http.ConnState) (idle net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = slices.DeleteFunc(c.waiting, func(other net.Conn) bool { return other == conn })
	switch state {
	case http.StateNew, http.StateIdle:
		c.open[conn] = true
		c.waiting = append(c.waiting, conn)
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
	if len(c.open) <= c.limit || len(c.waiting) == 0 {
		return nil
	}
	idle, c.waiting = c.waiting[0], c.waiting[1:]
	delete(c.open, idle)
	return idle
}
