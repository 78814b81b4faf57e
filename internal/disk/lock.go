package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a waiting Acquire looks again. A blocked flock(2) could not
// be given up when the context ends; five looks a second cost nothing beside a cycle
// of minutes.
const lockPoll = 200 * time.Millisecond

// maxHolderBytes bounds what is read of a lock file, which anybody may have written.
const maxHolderBytes = 4096

// Holder is the process that has the lock, as it wrote itself into the lock file.
type Holder struct {
	PID     int       `json:"pid"`     // 0: not known
	Since   time.Time `json:"since"`   // when it took the lock
	Command string    `json:"command"` // program and subcommand, without its flags
}

// String names the holder for a person.
func (h Holder) String() string {
	if h.PID == 0 {
		return "a process that is not known"
	}
	return fmt.Sprintf("pid %d (%q, since %s)", h.PID, h.Command, h.Since.Local().Format(time.DateTime))
}

func (h Holder) equal(other Holder) bool {
	return h.PID == other.PID && h.Since.Equal(other.Since)
}

// HeldError is Acquire's error when somebody else has the lock and the caller would
// not wait.
type HeldError struct {
	Path   string // of the lock file
	Holder Holder
}

// Error says who measures and what to do.
func (e *HeldError) Error() string {
	return fmt.Sprintf("another measurement is running on this host: %s holds %s; try again later, or wait for it by leaving out --no-wait",
		e.Holder, e.Path)
}

// Lock keeps measurements on one host apart: at most one holder at a time among all
// processes, and all goroutines, that use the same path. It is a lock file under
// flock(2). Its methods are safe for concurrent use.
//
// The file names the holder, for processes that wait, and stays when the lock is released.
// The name is a hint: the kernel alone knows whether the lock is held. What a killed process
// or a power loss left in the file keeps nobody from the lock; it is believed only while the
// lock is held, and only if the process that it names is alive. A file with other content
// works as a lock, too, and keeps its content. Removing the file while the lock is held lets
// a second holder in.
type Lock struct {
	path string
	flag string // that names the file, for errors; "" for none
}

// NewLock makes the lock of this host's measurements, whose file is at path, as --host.lock
// names it; "" stands for DefaultLockPath. The file is made when the lock is first acquired;
// its directory has to exist.
func NewLock(path string) *Lock {
	if path == "" {
		path = DefaultLockPath()
	}
	return &Lock{path, "--host.lock"}
}

// NewStateLock makes the lock of a state, whose file is at path. Its errors name no flag,
// because none names the file.
func NewStateLock(path string) *Lock { return &Lock{path: path} }

// elsewhere advises to use another file, where that is possible.
func (l *Lock) elsewhere(advice string) string {
	if l.flag == "" {
		return ""
	}
	return advice + " with " + l.flag
}

// DefaultLockPath is /run/lock/quant-exporter.lock where everybody may create files
// in /run/lock, as on Debian and Ubuntu, else /tmp/quant-exporter.lock.
//
// It has to be one path for all users of a host, so it goes by the directory's own
// mode and neither by the caller's rights nor by TMPDIR. What it cannot see is a
// file system of one's own: containers, and services under systemd's PrivateTmp=,
// that share a host with others have to be given a common file by --host.lock.
func DefaultLockPath() string {
	return defaultLockPath("/run/lock", "/tmp")
}

func defaultLockPath(preferred, fallback string) string {
	const name = "quant-exporter.lock"
	const shared = fs.ModeDir | fs.ModeSticky | 0o002
	if info, err := os.Stat(preferred); err == nil && info.Mode()&shared == shared {
		return filepath.Join(preferred, name)
	}
	return filepath.Join(fallback, name)
}

// Acquire takes the lock and returns the function that releases it, which may be called
// more than once. The lock is also released when the process ends, however it ends.
//
// While somebody else has the lock, Acquire returns a *HeldError if wait is false. Else it
// waits until the lock is free or ctx ends; if ctx ends, the error wraps ctx's error and
// nothing is held. waiting, which may be nil, is called from the caller's goroutine once for
// each holder waited for. Among several that wait, chance decides who gets the lock.
func (l *Lock) Acquire(ctx context.Context, wait bool, waiting func(Holder)) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("taking the measurement lock %s: %w", l.path, err)
	}
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	var reported *Holder
	for {
		f, ours, holder, err := l.try()
		if err != nil {
			return nil, fmt.Errorf("taking the measurement lock: %w", err)
		}
		if f != nil {
			return sync.OnceFunc(func() { unlock(f, ours) }), nil
		}
		if !wait {
			return nil, &HeldError{Path: l.path, Holder: holder}
		}
		if waiting != nil && (reported == nil || !reported.equal(holder)) {
			reported = &holder
			waiting(holder)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the measurement lock %s, held by %s: %w", l.path, holder, ctx.Err())
		case <-ticker.C:
		}
	}
}

// try returns the locked file, and whether its content is ours to write, or who else has
// the lock.
func (l *Lock) try() (f *os.File, ours bool, held Holder, err error) {
	for {
		f, err := l.open()
		if err != nil {
			return nil, false, Holder{}, err
		}
		locked, err := TryLock(f)
		if err != nil {
			f.Close()
			return nil, false, Holder{}, fmt.Errorf("%w: the file system cannot lock files%s", err, l.elsewhere("; name a file on a local one"))
		}
		content, readErr := io.ReadAll(io.LimitReader(f, maxHolderBytes+1))
		if !locked {
			f.Close()
			return nil, false, readHolder(content), nil
		}
		named, err := stillNamed(f, l.path)
		if err != nil {
			f.Close()
			return nil, false, Holder{}, err
		}
		if !named { // removed between the opening and the locking
			f.Close()
			continue
		}
		if readErr != nil || !isHint(content) {
			return f, false, Holder{}, nil
		}
		if err := writeHolder(f); err != nil {
			f.Close()
			return nil, false, Holder{}, err
		}
		return f, true, Holder{}, nil
	}
}

// open opens the lock file, or makes it, for every user to open.
func (l *Lock) open() (*os.File, error) {
	for {
		f, err := openLockFile(l.path)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = createLockFile(l.path, 0o666)
			if errors.Is(err, fs.ErrExist) { // made by somebody else meanwhile
				continue
			}
		}
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%w: every user of this file has to be able to write to it: change its permissions%s", err, l.elsewhere(", or name another"))
		case errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("%w: it is a symbolic link; remove it%s", err, l.elsewhere(", or name another file"))
		default:
			return nil, fmt.Errorf("%w%s", err, l.elsewhere(": name a file that can be written"))
		}
	}
}

// unlock empties the file, if its content is ours, before it frees the lock, so that whoever
// has the lock next and is asked before it wrote itself down is not taken for us.
func unlock(f *os.File, ours bool) {
	// Neither error matters: the content is only a hint, and Close frees the lock even
	// when it fails.
	if ours {
		_ = f.Truncate(0)
	}
	_ = f.Close()
}

// isHint reports whether content is what this program writes into a lock file, or what a
// power loss makes of that: nothing, zeros, a part, or a part of two.
func isHint(content []byte) bool {
	begin := []byte(`{"pid":`)
	text := bytes.Trim(content, "\x00 \t\r\n")
	return len(content) <= maxHolderBytes && bytes.Equal(text[:min(len(text), len(begin))], begin[:min(len(text), len(begin))])
}

// writeHolder writes this process into the locked file.
func writeHolder(f *os.File) error {
	data, err := json.Marshal(Holder{PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second), Command: command(os.Args)})
	if err != nil {
		return err
	}
	data = append(data, '\n')
	// In this order a reader finds, at every moment, the old holder or the new one. A
	// full disk costs the waiting processes our name, not us the lock.
	if _, err := f.WriteAt(data, 0); err != nil {
		return f.Truncate(0)
	}
	return f.Truncate(int64(len(data)))
}

// readHolder finds the holder in the content of a lock file that somebody else has
// locked. A process that is not alive left its name when it was killed, and the one
// that has the lock now is about to write its own; or it lives in another container,
// where its pid means nothing to us.
func readHolder(content []byte) Holder {
	holder, err := parseHolder(content)
	if err != nil || !alive(holder.PID) {
		return Holder{}
	}
	return holder
}

// parseHolder reads the first JSON value of content: the rest may be the tail of a
// longer, older one.
func parseHolder(content []byte) (Holder, error) {
	var holder Holder
	if err := json.NewDecoder(bytes.NewReader(content)).Decode(&holder); err != nil {
		return Holder{}, err
	}
	if holder.PID <= 0 {
		return Holder{}, errors.New("no pid")
	}
	return holder, nil
}

// alive reports whether a process of that pid exists, whoever owns it.
func alive(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

// command names the program and its subcommand. The flags are left out: everybody can
// read the lock file, and a flag may hold a password.
func command(args []string) string {
	if len(args) == 0 {
		return ""
	}
	words := []string{filepath.Base(args[0])}
	for _, arg := range args[1:] {
		if strings.HasPrefix(arg, "-") {
			break
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
