package servers

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy forwards connections to a server, and at times loses what it answers, or is cut off
// from it. Its methods may be called by several goroutines.
type Proxy struct {
	Addr string // host:port
	// Asked receives something when something is asked that is not to be answered.
	Asked chan struct{}

	server   string
	listener net.Listener
	mute     atomic.Bool

	mu     sync.Mutex
	absent bool
	conns  map[net.Conn]bool
}

// StartProxy starts a Proxy of the server at an address. It ends with the test.
func StartProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("starting a proxy: %v", err)
	}
	p := &Proxy{Addr: listener.Addr().String(), Asked: make(chan struct{}, 1), server: server, listener: listener, conns: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.Disconnect()
		serving.Wait()
	})
	return p
}

// Swallow begins to lose answers.
func (p *Proxy) Swallow() { p.mute.Store(true) }

// Pass ends that, and cuts the connections: on none of them comes an answer after one that was
// lost.
func (p *Proxy) Pass() {
	p.mute.Store(false)
	p.Cut()
}

// Cut ends the connections that there are.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// Disconnect ends the connections, and those that are made, until Connect.
func (p *Proxy) Disconnect() {
	p.mu.Lock()
	p.absent = true
	p.mu.Unlock()
	p.Cut()
}

// Connect ends Disconnect.
func (p *Proxy) Connect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.absent = false
}

// serve ends when either side does.
func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	absent := p.absent
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	if !absent {
		p.forward(client, server)
	}
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

func (p *Proxy) forward(client, server net.Conn) {
	var answers sync.WaitGroup
	answers.Go(func() {
		defer client.Close()
		lost := false // an answer: none comes after it
		_, _ = io.Copy(writer(func(b []byte) (int, error) {
			if lost = lost || p.mute.Load(); lost {
				return len(b), nil
			}
			return client.Write(b)
		}), server)
	})
	_, _ = io.Copy(writer(func(b []byte) (int, error) {
		if p.mute.Load() {
			select {
			case p.Asked <- struct{}{}:
			default:
			}
		}
		return server.Write(b)
	}), client)
	server.Close()
	answers.Wait()
}

// writer is an io.Writer that is a function.
type writer func([]byte) (int, error)

// Write calls the function.
func (w writer) Write(b []byte) (int, error) { return w(b) }
