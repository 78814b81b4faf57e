package process_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/process"
)

func init() { moreParts["try"] = try }

// try plays a tool that does what its environment says, and prints what was refused.
func try() {
	say := func(what string, err error) {
		var errno syscall.Errno
		switch {
		case err == nil:
			fmt.Println(what, "done")
		case errors.As(err, &errno):
			fmt.Println(what, errno)
		default:
			fmt.Println(what, err)
		}
	}
	readable, secret, address := os.Getenv("READABLE"), os.Getenv("SECRET"), os.Getenv("ADDRESS")
	_, err := os.ReadFile(readable)
	say("read the model:", err)
	_, err = os.OpenFile(readable, os.O_WRONLY, 0)
	say("write to the model:", err)
	say("truncate the model:", os.Truncate(readable, 0))
	_, err = os.OpenFile("link", os.O_WRONLY, 0)
	say("write through a symbolic link:", err)
	say("link the model:", os.Link(readable, "mine"))
	say("remove the model:", os.Remove(readable))
	_, err = os.ReadFile(secret)
	say("read a secret:", err)
	say("write a result:", os.WriteFile("result", []byte("x"), 0o600))
	say("rename the result:", os.Rename("result", "renamed"))
	say("write to nothing:", os.WriteFile("/dev/null", nil, 0))
	thread, err := os.OpenFile("/proc/self/task/"+strconv.Itoa(os.Getpid())+"/comm", os.O_RDWR, 0)
	say("name a thread:", err)
	if err == nil {
		_ = thread.Close()
	}
	say("signal the parent:", syscall.Kill(os.Getppid(), 0))
	for _, other := range [][2]string{{"tcp", address}, {"udp", address}, {"unix", os.Getenv("OTHER")}, {"unixgram", os.Getenv("OTHER")}} {
		connection, err := net.Dial(other[0], other[1])
		say("connect by "+other[0]+":", err)
		if err == nil {
			_ = connection.Close()
		}
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_SOCKETPAIR, syscall.AF_UNIX, syscall.SOCK_DGRAM, 0) // no place for the two
	say("a pair of sockets:", errno)
	_, _, errno = syscall.RawSyscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
	say("io_uring:", errno)
	listener, err := net.Listen("unix", "socket")
	say("listen on a socket of its own:", err)
	if err == nil {
		_ = listener.Close()
	}
}

func confined(t *testing.T) (s process.Spec, model string) {
	t.Helper()
	lock := newLock(t)
	models, secrets := t.TempDir(), t.TempDir()
	model, secret := filepath.Join(models, "model.gguf"), filepath.Join(secrets, "secret")
	require.NoError(t, os.WriteFile(model, []byte("model"), 0o600))
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	require.NoError(t, os.Symlink(model, filepath.Join(filepath.Dir(lock), "link")))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	other := filepath.Join(t.TempDir(), "other")
	another, err := net.Listen("unix", other)
	require.NoError(t, err)
	t.Cleanup(func() { _ = another.Close() })

	s = spec(lock, "try")
	s.Env = append(s.Env, "READABLE="+model, "SECRET="+secret, "ADDRESS="+listener.Addr().String(), "OTHER="+other)
	s.Confinement = &process.Confinement{
		Reads:   []string{filepath.Dir(os.Args[0]), models, "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/proc", "/sys", "/is/not/there"},
		Writes:  []string{s.Dir},
		Devices: []string{"/dev/null"},
	}
	return s, model
}

func TestConfinedChildDoesWhatItMayAndNoMore(t *testing.T) {
	s, model := confined(t)
	result, err := process.Run(t.Context(), s)
	requireStarted(t, err)
	version := process.Landlock()
	if version == 0 {
		return
	}
	since := func(first int, refused string) string {
		if version < first {
			return "done"
		}
		return refused
	}
	assert.Equal(t, strings.TrimSpace(`
read the model: done
write to the model: permission denied
truncate the model: `+since(3, "permission denied")+`
write through a symbolic link: permission denied
link the model: invalid cross-device link
remove the model: permission denied
read a secret: permission denied
write a result: done
rename the result: done
write to nothing: done
name a thread: permission denied
signal the parent: `+since(6, "operation not permitted")+`
connect by tcp: permission denied
connect by udp: permission denied
connect by unix: permission denied
connect by unixgram: permission denied
a pair of sockets: bad address
io_uring: function not implemented
listen on a socket of its own: done
`), strings.TrimSpace(string(result.Stdout)))
	text, err := os.ReadFile(model)
	require.NoError(t, err)
	if version >= 3 {
		assert.Equal(t, "model", string(text))
	}
}

// CUDA's driver asks other processes, and the kernel.
func TestConfinedChildThatConnects(t *testing.T) {
	s, _ := confined(t)
	s.Confinement.Connects = true
	result, err := process.Run(t.Context(), s)
	requireStarted(t, err)
	if process.Landlock() > 0 {
		assert.Contains(t, string(result.Stdout), "connect by tcp: permission denied\nconnect by udp: permission denied\nconnect by unix: done\nconnect by unixgram: permission denied\n")
	}
}

// CUDA's driver names its threads by files below /proc, and does nothing where it may not.
func TestConfinedChildNamesItsThreads(t *testing.T) {
	s, _ := confined(t)
	s.Confinement.Devices = append(s.Confinement.Devices, "/proc")
	result, err := process.Run(t.Context(), s)
	requireStarted(t, err)
	if process.Landlock() > 0 {
		assert.Contains(t, string(result.Stdout), "name a thread: done\n")
	}
}

// requireStarted says that a confined child was started, where the kernel has Landlock; else that
// it was not.
func requireStarted(t *testing.T, err error) {
	t.Helper()
	if process.Landlock() == 0 {
		require.ErrorIs(t, err, process.ErrNoLandlock)
	} else {
		require.NoError(t, err)
	}
}

// The confinement is the child's: this process may do all that it might before.
func TestConfinementEndsWithItsRun(t *testing.T) {
	s, model := confined(t)
	for range 20 {
		_, err := process.Run(t.Context(), s)
		requireStarted(t, err)
	}
	require.NoError(t, os.WriteFile(model, []byte("ours"), 0o600))
	s.Confinement = nil
	result, err := process.Run(t.Context(), s)
	require.NoError(t, err)
	assert.Contains(t, string(result.Stdout), "read a secret: done\n")
}

func TestConfinedChildIsTimedOutAndKilled(t *testing.T) {
	s, _ := confined(t)
	s.Env[0] = helperEnv + "=hang with stubborn child"
	s.Timeout = 50 * time.Millisecond
	_, err := process.Run(t.Context(), s)
	if process.Landlock() == 0 {
		requireStarted(t, err)
		return
	}
	var timeout *process.TimeoutError
	require.ErrorAs(t, err, &timeout)
	requireNobodyLeft(t, filepath.Join(s.Dir, "lock"))
}

func BenchmarkStart(b *testing.B) {
	for name, confinement := range map[string]*process.Confinement{
		"plain": nil,
		"confined": {
			Reads:  []string{"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/proc", "/sys", "/opt", "/nix", "/tmp", "/var/lib", "/home"},
			Writes: []string{b.TempDir(), "/dev/shm"}, Devices: []string{"/dev/null", "/dev/zero", "/dev/urandom"},
		},
	} {
		b.Run(name, func(b *testing.B) {
			if confinement != nil && process.Landlock() == 0 {
				b.Skip("no Landlock")
			}
			for b.Loop() {
				if _, err := process.Run(b.Context(), process.Spec{Path: "/bin/true", Dir: "/", Confinement: confinement}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
