package disk

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// marker is the content of a lock file: with the name it tells what is ours.
const marker = "quant-exporter: lock of the working directory of the same name\n"

const lockSuffix = ".lock"

// lockName is the name of a lock file, as newName makes it.
var lockName = regexp.MustCompile(`^cycle-[0-9a-f]{16}\.lock$`)

func newName() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return "cycle-" + hex.EncodeToString(id[:])
}

// Dir is a working directory in use. Its methods are safe for concurrent use.
type Dir struct {
	path string

	mu   sync.Mutex
	lock *os.File // nil once removed
}

// NewDir makes a new working directory, for this user alone, in parent, which it makes
// too if it is not there. The directory is the caller's until Remove or the end of the
// process. Errors wrap those of the file system.
func NewDir(parent string) (*Dir, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("finding the folder for working directories: %w", err)
	}
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return nil, fmt.Errorf("making the folder for working directories: %w", err)
	}
	for {
		path := filepath.Join(parent, newName())
		lock, err := claim(path + lockSuffix)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("making the lock of a working directory: %w", err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("making a working directory: %w", err), drop(lock))
		}
		return &Dir{path: path, lock: lock}, nil
	}
}

// errTaken says that a name cannot be had: it is in use, or a sweep was quicker.
var errTaken = errors.New("taken")

// claim makes the lock file at path and locks it.
func claim(path string) (*os.File, error) {
	f, err := createLockFile(path, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	// Until it is locked, another process may sweep the file away.
	locked, err := TryLock(f)
	if err != nil {
		err = fmt.Errorf("%w: the file system cannot lock files; choose a folder on a local one", err)
		return nil, errors.Join(err, drop(f))
	}
	if !locked {
		f.Close()
		return nil, errTaken
	}
	named, err := stillNamed(f, path)
	if err != nil {
		return nil, errors.Join(err, drop(f))
	}
	if !named {
		f.Close()
		return nil, errTaken
	}
	if _, err := f.WriteString(marker); err != nil {
		return nil, errors.Join(err, drop(f))
	}
	return f, nil
}

// drop removes a lock file and frees its lock, in this order: a file of that name is
// then never both there and free while its directory is in use.
func drop(lock *os.File) error {
	return errors.Join(os.Remove(lock.Name()), lock.Close())
}

// Path is the absolute path of the directory.
func (d *Dir) Path() string { return d.path }

// Remove removes the directory with all it holds and gives up the lock. It follows no
// symbolic link and touches no file's content or mode: a hard link is another name of
// the user's model. Calling it again after it has succeeded does nothing; after an
// error the directory is still owned, and a later sweep gets it if Remove is not
// called again.
func (d *Dir) Remove() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lock == nil {
		return nil
	}
	if err := removeTree(d.path); err != nil {
		return err
	}
	err := drop(d.lock)
	d.lock = nil
	return err
}

// removeTree is os.RemoveAll that also gets at what lies in directories without write
// or search permission.
func removeTree(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return errors.Join(openDirs(path), os.RemoveAll(path))
}

// openDirs gives the owner every permission on the directories of the tree. It leaves
// files alone.
func openDirs(path string) error {
	if err := os.Chmod(path, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(path) // nothing below can lead out of it
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return root.Chmod(name, 0o700)
	})
}

// Sweep removes from parent the working directories whose owners are gone, whatever
// ended them, and gives their paths. It leaves alone the directories in use and
// whatever is not ours: only a lock file with our name and content makes a directory
// ours. It may run beside NewDir, Remove and other sweeps, in this process and others.
// One that cannot be removed keeps it from no other; the errors come joined.
func Sweep(parent string) (removed []string, err error) {
	parent, err = filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("finding the folder of working directories: %w", err)
	}
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for abandoned working directories: %w", err)
	}
	var all []error
	for _, entry := range entries {
		if !lockName.MatchString(entry.Name()) {
			continue
		}
		lock := filepath.Join(parent, entry.Name())
		gone, err := sweepOne(lock)
		path := strings.TrimSuffix(lock, lockSuffix)
		if err != nil {
			all = append(all, fmt.Errorf("removing the abandoned working directory %s: %w; remove it by hand", path, err))
		}
		if gone {
			removed = append(removed, path)
		}
	}
	return removed, errors.Join(all...)
}

// sweepOne removes the directory that the lock file belongs to, if nobody holds the
// lock, and reports whether it did.
func sweepOne(path string) (removed bool, err error) {
	lock, err := openLockFile(path)
	if errors.Is(err, fs.ErrNotExist) { // its owner has just removed it
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if locked, err := TryLock(lock); err != nil || !locked {
		return false, err
	}
	if named, err := stillNamed(lock, path); err != nil || !named {
		return false, err
	}
	dir := strings.TrimSuffix(path, lockSuffix)
	content, err := io.ReadAll(io.LimitReader(lock, int64(len(marker))+1))
	if err != nil {
		return false, err
	}
	switch string(content) {
	case marker:
		if err := removeTree(dir); err != nil {
			return false, err
		}
	case "":
		// Its owner is between making and marking it, or was killed there: the
		// directory comes after that.
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	default:
		return false, nil
	}
	return true, os.Remove(path)
}
