package servers

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// RedisOptions says how a redis-server runs beyond its address and folder.
type RedisOptions struct {
	// Config is the text of a redis.conf. Default "": none.
	Config string
	// Args follow our own: {"--appendonly", "yes"}. By default nothing is kept on disk.
	// {"--sentinel"} with a Config makes it a Sentinel.
	Args []string
}

// Redis is a running redis-server.
type Redis struct {
	Addr   string // host:port
	Socket string // path of its Unix socket, short enough for one
	Dir    string // its working folder: AOF, RDB

	t      testing.TB
	server *server
	cli    string
}

// StartRedis starts a redis-server and waits until it answers PING.
func StartRedis(t testing.TB, options RedisOptions) *Redis {
	t.Helper()
	// A test's own folder may be too long a path for a socket (about 100 bytes).
	sockets, err := os.MkdirTemp("", "redis-")
	if err != nil {
		t.Fatalf("making a folder for the socket of redis-server: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	s := newServer(t, "redis-server")
	r := &Redis{Socket: filepath.Join(sockets, "s"), Dir: s.dir, t: t, server: s, cli: Tool(t, "redis-cli")}

	s.write(t, "redis.conf", options.Config)
	s.args = func(port int) []string {
		return append([]string{
			"redis.conf", "--bind", "127.0.0.1", "--port", strconv.Itoa(port),
			"--unixsocket", r.Socket, "--dir", s.dir, "--save", "", "--appendonly", "no",
		}, options.Args...)
	}
	s.ready = r.ping
	s.launch(t)
	r.Addr = loopback(s.port)
	return r
}

// Sentinel starts a Sentinel that watches the server under the name main, with further lines of
// its configuration.
func (r *Redis) Sentinel(t testing.TB, lines string) *Redis {
	t.Helper()
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatalf("reading the address of redis-server: %v", err)
	}
	return StartRedis(t, RedisOptions{
		Config: fmt.Sprintf("sentinel monitor main %s %s 1\n%s", host, port, lines),
		Args:   []string{"--sentinel"},
	})
}

// StartCluster starts a cluster of one server, and waits until it takes commands.
func StartCluster(t testing.TB) *Redis {
	t.Helper()
	r := StartRedis(t, RedisOptions{Args: []string{"--cluster-enabled", "yes"}})
	r.CLI("cluster", "addslotsrange", "0", "16383")
	for !strings.Contains(r.CLI("cluster", "info"), "cluster_state:ok") {
		if err := t.Context().Err(); err != nil {
			t.Fatalf("waiting for the cluster: %v", err)
		}
	}
	return r
}

// ping asks through the socket, where only this server can answer.
func (r *Redis) ping(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.Socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	// NOAUTH comes only after loading, too: the server wants a password, and is ready.
	if !strings.HasPrefix(answer, "+PONG") && !strings.HasPrefix(answer, "-NOAUTH") {
		return fmt.Errorf("PING is answered with %q", answer)
	}
	return nil
}

// Kill ends the server as a power cut would (SIGKILL), and waits until it is gone.
func (r *Redis) Kill() {
	r.t.Helper()
	r.server.kill(r.t)
}

// Stop asks the server to end (SIGTERM: it saves what it is configured to keep), and waits
// until it has ended.
func (r *Redis) Stop() {
	r.t.Helper()
	r.server.stop(r.t)
}

// Restart starts the server again, on its port and folder, and waits until it has loaded
// its data and answers. One that is running is stopped first.
func (r *Redis) Restart() {
	r.t.Helper()
	r.Stop()
	if err := r.server.start(r.t.Context()); err != nil {
		r.t.Fatalf("restarting: %v; it printed:\n%s", err, r.server.output())
	}
}

// Freeze stops the server in its tracks (SIGSTOP): its connections stay open, and nobody
// answers. It has taken effect when Freeze returns.
func (r *Redis) Freeze() {
	r.t.Helper()
	r.server.signal(r.t, syscall.SIGSTOP)
	if err := waitStopped(r.server.cmd.Process.Pid); err != nil {
		r.t.Fatalf("waiting for redis-server to freeze: %v", err)
	}
}

// Thaw lets a frozen server go on.
func (r *Redis) Thaw() {
	r.t.Helper()
	r.server.signal(r.t, syscall.SIGCONT)
}

// CLI is what redis-cli prints for these arguments: CLI("xlen", "stream"). An error that
// Redis answers with is printed too, as redis-cli does: "WRONGTYPE ...".
func (r *Redis) CLI(args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.cli, append([]string{"-s", r.Socket}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("redis-cli %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
