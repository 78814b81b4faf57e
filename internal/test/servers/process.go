package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a server: it guards against hangs and measures nothing.
// On a busy host of two cores, two cycles of the real llama.cpp take more than a minute.
const patience = 5 * time.Minute

// pollInterval is the pause between two looks at a foreign process, which cannot tell us.
const pollInterval = 10 * time.Millisecond

// errNoPort says that somebody else took the server's port before the server did.
var errNoPort = errors.New("its port is in use")

// FreePort is a port of 127.0.0.1 that nobody listens on now. It lies below the ports
// that Linux and macOS give to outgoing connections: one of those cannot take the port
// of a server that is down for a moment.
func FreePort(t testing.TB) int {
	t.Helper()
	var err error
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		var l net.Listener
		if l, err = net.Listen("tcp", loopback(port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("no free port of 127.0.0.1 in 100 tries: %v", err)
	return 0
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// server is one server program, which can be started several times, one after another.
type server struct {
	path  string                      // of the program
	dir   string                      // its working folder
	log   string                      // file that keeps what it prints
	args  func(port int) []string     // without the program's name
	ready func(context.Context) error // nil when it answers; asked with a short deadline
	port  int
	cmd   *exec.Cmd     // of the latest start
	ended chan struct{} // closed when that has been waited for
}

// newServer prepares a server in a folder of the test's own; launch starts it. ready and
// args may be filled in after that. The cleanup of the test ends it.
func newServer(t testing.TB, program string) *server {
	t.Helper()
	dir := t.TempDir() // before Cleanup: it goes after the server has gone
	s := &server{path: Tool(t, program), dir: dir, log: filepath.Join(t.TempDir(), program+".log")}
	t.Cleanup(func() {
		s.kill(t)
		if t.Failed() {
			t.Logf("%s printed:\n%s", program, s.output())
		}
	})
	return s
}

// launch starts the server on a free port and waits until it is ready.
func (s *server) launch(t testing.TB) {
	t.Helper()
	for {
		s.port = FreePort(t)
		err := s.start(t.Context())
		if err == nil {
			return
		}
		if !errors.Is(err, errNoPort) {
			t.Fatalf("%v; it printed:\n%s", err, s.output())
		}
	}
}

// start starts the server on its port and waits until it is ready.
func (s *server) start(ctx context.Context) error {
	if err := s.spawn(); err != nil {
		return fmt.Errorf("starting %s: %w", s.path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var notReady error
	for {
		ask, done := context.WithTimeout(ctx, 10*time.Second)
		err := s.ready(ask)
		done()
		if err == nil {
			return nil
		}
		notReady = err
		select {
		case <-s.ended:
			if bytes.Contains(bytes.ToLower(s.output()), []byte("address already in use")) {
				return fmt.Errorf("%s: %w", s.path, errNoPort)
			}
			return fmt.Errorf("%s ended before it was ready: %v", s.path, s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready within %v: %w", s.path, patience, notReady)
		case <-time.After(pollInterval):
		}
	}
}

// spawn starts the process. Its parent is a thread that lives as long as it does: the
// kernel ends the process with that thread (see attributes), not only with the program.
func (s *server) spawn() error {
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.path, s.args(s.port)...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, log, log
	s.cmd.SysProcAttr = attributes()
	s.ended = make(chan struct{})
	started := make(chan error)
	go func(cmd *exec.Cmd, ended chan struct{}) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in cmd.ProcessState
		}
		close(ended)
	}(s.cmd, s.ended)
	return <-started
}

// running reports whether the process was started and has not ended.
func (s *server) running() bool {
	if s.ended == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// signal goes to the server and all it started.
func (s *server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil {
		t.Fatalf("sending %v to %s: %v", sig, s.path, err)
	}
}

// stop asks the server to end, and waits until it has. One that has ended is fine.
func (s *server) stop(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGTERM)
}

// kill ends the server at once, and waits until it is gone. One that has ended is fine.
func (s *server) kill(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGKILL)
}

func (s *server) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if !s.running() {
		return
	}
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("sending %v to %s: %v", sig, s.path, err)
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGCONT) // a frozen one sees sig only then
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Errorf("%s has not ended within %v of %v", s.path, patience, sig)
	}
}

// output is what the server has printed since its latest start.
func (s *server) output() []byte {
	out, err := os.ReadFile(s.log)
	if err != nil {
		return []byte(err.Error())
	}
	return out
}
