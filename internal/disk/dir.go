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
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// marker is the content of a lock file: together with the name it shows what is ours.
const marker = "quant-exporter: lock of the working directory of the same name\n"

const lockSuffix = ".lock"

// dirName is the name of a working directory, as newName makes it.
var dirName = regexp.MustCompile(`^cycle-[0-9a-f]{16}$`)

// InWorkingDir reports whether a path leads into a working directory, whoever's: one of its
// directories has the name of such and a lock file beside it.
func InWorkingDir(path string) bool {
	for dir := filepath.Clean(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if !dirName.MatchString(filepath.Base(dir)) {
			continue
		}
		if _, err := os.Lstat(dir + lockSuffix); err == nil {
			return true
		}
	}
	return false
}

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

// NewDir makes a new working directory in parent, accessible to this user alone. It makes
// parent, too, if it does not exist. The directory is the caller's until Remove or the end of
// the process. Errors wrap the file system's.
func NewDir(parent string) (*Dir, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("finding the folder for working folders: %w", err)
	}
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return nil, fmt.Errorf("making the folder for working folders: %w", err)
	}
	for {
		path := filepath.Join(parent, newName())
		lock, err := claim(path + lockSuffix)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("making the lock of a working folder: %w", err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("making a working folder: %w", err), drop(lock))
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
	_, err = f.WriteString(marker)
	// The marker has to outlast a power loss that leaves the directory, which comes later.
	if err = errors.Join(err, f.Sync(), Sync(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, drop(f))
	}
	return f, nil
}

// drop removes a lock file and frees its lock, in this order: a file of that name is
// then never both there and free while its directory is in use.
func drop(lock *os.File) error {
	return errors.Join(os.Remove(lock.Name()), lock.Close())
}

// Path returns the absolute path of the directory.
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
// whatever is not ours. A lock file with our name and content makes a directory ours; so
// does what a power loss leaves of one: our name, and a part of the content, zeros or
// nothing; and, where even the lock file is gone, our name and what a cycle puts into its
// directory first. It may run beside NewDir, Remove and other sweeps, in this process and
// others. If one cannot be removed, it goes on with the others, and joins the errors.
func Sweep(parent string) (removed []string, err error) {
	parent, err = filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("finding the folder of working folders: %w", err)
	}
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for abandoned working folders: %w", err)
	}
	var all []error
	for _, entry := range entries {
		path, isLock := strings.CutSuffix(filepath.Join(parent, entry.Name()), lockSuffix)
		sweep := sweepOne
		if !isLock && entry.IsDir() {
			sweep = sweepWithoutLock
		}
		if !dirName.MatchString(filepath.Base(path)) || !isLock && !entry.IsDir() {
			continue
		}
		gone, err := sweep(path)
		if err != nil {
			all = append(all, fmt.Errorf("removing the abandoned working folder %s: %w; remove it by hand", path, err))
		}
		if gone {
			removed = append(removed, path)
		}
	}
	return removed, errors.Join(all...)
}

// sweepOne removes a working directory that has a lock file, if nobody holds the lock, and
// reports whether it did.
func sweepOne(dir string) (removed bool, err error) {
	path := dir + lockSuffix
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
	content, err := io.ReadAll(io.LimitReader(lock, int64(len(marker))+1))
	if err != nil {
		return false, err
	}
	// Its owner is between making and marking it, or was killed there, when there is no
	// content and no directory yet.
	if written := strings.TrimRight(string(content), "\x00"); len(content) > len(marker) || !strings.HasPrefix(marker, written) {
		return false, nil
	}
	if string(content) != marker {
		if ours, err := sameOwner(lock, dir); err != nil || !ours {
			return false, err
		}
	}
	if err := removeTree(dir); err != nil {
		return false, err
	}
	return true, os.Remove(path)
}

// sameOwner reports whether a lock file and its directory, which need not be there, are of
// the same user, as only one program made both.
func sameOwner(lock *os.File, dir string) (bool, error) {
	var file, of unix.Stat_t
	if err := unix.Fstat(int(lock.Fd()), &file); err != nil {
		return false, fmt.Errorf("stat %s: %w", lock.Name(), err)
	}
	err := unix.Lstat(dir, &of)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	return of.Mode&unix.S_IFMT == unix.S_IFDIR && of.Uid == file.Uid, nil
}

// isolated is what the files are called that a cycle brings into its directory before
// anything else.
var isolated = regexp.MustCompile(`^(original|plan|against)(-[0-9]{5}-of-[0-9]{5})?\.gguf$`)

// sweepWithoutLock removes a directory that has our name and no lock file, if it holds what
// our cycles put there and is closed to everybody else, as ours are. It reports whether it
// did. An owner that is alive has a lock file.
func sweepWithoutLock(dir string) (removed bool, err error) {
	if _, err := os.Lstat(dir + lockSuffix); !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	info, err := os.Lstat(dir)
	if err != nil || info.Mode() != fs.ModeDir|0o700 {
		return false, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil || !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return isolated.MatchString(e.Name()) }) {
		return false, nil
	}
	lock, err := claim(dir + lockSuffix)
	if errors.Is(err, errTaken) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := removeTree(dir); err != nil { // the next sweep finds the lock file
		return false, errors.Join(err, lock.Close())
	}
	return true, drop(lock)
}
