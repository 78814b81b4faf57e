// Package cache keeps files that cycles made, each under the key of what it was made of,
// so that the next cycle with the same inputs need not make it again.
//
// A file is whole or not there, whatever is killed at whatever moment: it comes in under
// another name, is synced, and only then gets its own, which holds the SHA-256 of its
// content. Taking it out compares the two: a file that was damaged on the disk is removed,
// and never used. All files together stay within a size: the ones unused for longest make
// room before a new one comes in.
//
// Several processes may share a directory. They change it only while they hold the lock on a
// file in it. The kernel frees the lock of a killed process, so a file with the name of an
// incoming one that nobody holds the lock for was left behind.
package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// Names in the directory. What has none of them is not ours, and is left alone.
const (
	lockName       = "lock"
	incomingPrefix = ".incoming-"
)

// lockPoll is how often a lock that another process has is asked for.
const lockPoll = 50 * time.Millisecond

var (
	entryName = regexp.MustCompile(`^([0-9a-f]{64})-([0-9a-f]{64})$`) // key, SHA-256 of the content
	keyName   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Cache is a directory of files. Its methods are safe for concurrent use, also by several
// processes.
type Cache struct {
	dir    string
	size   int64
	logger *slog.Logger

	mu sync.Mutex // the lock is one between processes
}

// Open makes the directory, removes what killed processes left in it, and what is beyond the
// size in bytes. The error says what to do.
func Open(ctx context.Context, dir string, size int64, logger *slog.Logger) (*Cache, error) {
	c := &Cache{dir: dir, size: size, logger: logger}
	err := os.MkdirAll(dir, 0o750)
	if err == nil {
		err = c.locked(ctx, c.tidy)
	}
	if err != nil {
		return nil, fmt.Errorf("the folder %q cannot keep files for later cycles: %w: name another work.dir, or set cache.size to 0", dir, err)
	}
	return c, nil
}

// locked runs f while no other process changes the directory.
func (c *Cache) locked(ctx context.Context, f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	lock, err := os.OpenFile(filepath.Join(c.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which frees it
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		if locked, err := disk.TryLock(lock); err != nil {
			return fmt.Errorf("locking %s: %w", lock.Name(), err)
		} else if locked {
			return f()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for another process with %s: %w", lock.Name(), context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// tidy removes what was left behind, and what is too much.
func (c *Cache) tidy() error {
	left, err := filepath.Glob(filepath.Join(c.dir, incomingPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return c.evict(c.size, nil)
}

// entry is a file that is kept.
type entry struct {
	path, key, hash string
	size            int64
	used            time.Time
	shared          bool // has another name elsewhere: to remove this one makes no room
}

// entries returns the files, the one unused for longest first.
func (c *Cache) entries() ([]entry, error) {
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, file := range files {
		match := entryName.FindStringSubmatch(file.Name())
		if match == nil {
			continue
		}
		path := filepath.Join(c.dir, file.Name())
		info, err := file.Info()
		e := entry{path: path, key: match[1], hash: match[2]}
		if err == nil {
			e.size = info.Size()
			e.used, e.shared, err = known(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // evicted this very moment
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path)) })
	return all, nil
}

func (c *Cache) find(key string) (entry, bool, error) {
	all, err := c.entries()
	if err != nil {
		return entry{}, false, err
	}
	i := slices.IndexFunc(all, func(e entry) bool { return e.key == key })
	if i < 0 {
		return entry{}, false, nil
	}
	return all[i], true, nil
}

// evict removes files until all together are within a size; it spares the files of some
// keys.
func (c *Cache) evict(size int64, keep []string) error {
	all, err := c.entries()
	if err != nil {
		return err
	}
	total := int64(0)
	for _, e := range all {
		total += e.size
	}
	for _, e := range all {
		if total <= size {
			break
		}
		if slices.Contains(keep, e.key) {
			continue
		}
		if err := os.Remove(e.path); err != nil {
			return err
		}
		total -= e.size
		c.logger.Debug("a kept file makes room", "file", e.path, "bytes", e.size)
	}
	return nil
}

// Has reports whether there is a file of the key, whole or not, that takes no room in a
// directory.
func (c *Cache) Has(key, dir string) bool {
	_, found, err := c.find(key)
	if err != nil || !found {
		return false
	}
	same, err := sameFileSystem(c.dir, dir)
	return err == nil && same
}

// Get brings the file of the key to path, which must not exist, and gives the SHA-256 of
// its content, in hexadecimal; false when there is none, or none that is whole.
func (c *Cache) Get(ctx context.Context, key, path string) (hash string, found bool, err error) {
	var e entry
	err = c.locked(ctx, func() error {
		var err error
		if e, found, err = c.find(key); err != nil || !found {
			return err
		}
		if err := use(e.path); err != nil {
			return err
		}
		_, err = disk.Keep(ctx, e.path, path)
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("reusing a kept file: %w", err)
	}
	if !found {
		return "", false, nil
	}
	is, _, err := disk.Hash(ctx, path, nil)
	if err == nil && is == e.hash {
		return is, true, nil
	}
	err = errors.Join(err, os.Remove(path))
	if is != "" && is != e.hash {
		c.logger.Warn("a kept file was damaged on the disk: it is removed, and made again", "file", e.path)
		c.warnOfNames(e)
		err = errors.Join(err, c.locked(ctx, func() error { return remove(e.path) }))
	}
	if err != nil {
		return "", false, fmt.Errorf("reusing the kept file %s: %w", e.path, err)
	}
	return "", false, nil
}

// Put keeps the file at path, which nobody may write to any more, under a key. A file that
// is larger than all together may be is not kept.
func (c *Cache) Put(ctx context.Context, key, path string) error {
	if !keyName.MatchString(key) {
		return fmt.Errorf("%q is not a key of a kept file", key)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("keeping a file: %w", err)
	}
	if info.Size() > c.size {
		c.logger.Debug("a file is not kept: it is larger than cache.size", "file", path, "bytes", info.Size())
		return nil
	}
	if err := c.locked(ctx, func() error { return c.put(ctx, key, path, info.Size()) }); err != nil {
		return fmt.Errorf("keeping %s for later cycles: %w", path, err)
	}
	return nil
}

func (c *Cache) put(ctx context.Context, key, path string, size int64) (err error) {
	if _, found, err := c.find(key); err != nil || found {
		return err
	}
	if err := c.evict(c.size-size, nil); err != nil {
		return err
	}
	incoming := filepath.Join(c.dir, incomingPrefix+rand.Text())
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(incoming))
		}
	}()
	if _, err := disk.Keep(ctx, path, incoming); err != nil {
		return err
	}
	hash, _, err := disk.Hash(ctx, incoming, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(use(incoming), disk.Sync(incoming)); err != nil {
		return err
	}
	if err := os.Rename(incoming, filepath.Join(c.dir, key+"-"+hash)); err != nil {
		return err
	}
	return disk.Sync(c.dir)
}

// warnOfNames says that a damaged file has other names, which are as damaged.
func (c *Cache) warnOfNames(e entry) {
	if e.shared {
		c.logger.Error("a damaged file has other names: a copy of it that is published is damaged as well", "sha256", e.hash, "file", e.path)
	}
}

// Drop removes the file of a key, if there is one. Where the file has other names and was written
// to, it says so.
func (c *Cache) Drop(ctx context.Context, key string) error {
	var e entry
	err := c.locked(ctx, func() error {
		var found bool
		var err error
		if e, found, err = c.find(key); err != nil || !found {
			return err
		}
		c.logger.Debug("a kept file is dropped", "file", e.path)
		return nil
	})
	if err == nil && e.shared {
		if is, _, err := disk.Hash(ctx, e.path, nil); err == nil && is != e.hash {
			c.warnOfNames(e)
		}
	}
	if err == nil && e.path != "" {
		err = c.locked(ctx, func() error { return remove(e.path) })
	}
	if err != nil {
		return fmt.Errorf("dropping a kept file: %w", err)
	}
	return nil
}

// MakeRoom removes files until so many bytes are free on the file system of dir, the ones
// unused for longest first. It spares the files of the keys to keep, and files with another
// name, such as a published one. If the files are on another file system it does nothing.
func (c *Cache) MakeRoom(ctx context.Context, dir string, bytes int64, keep []string) error {
	err := c.locked(ctx, func() error {
		if same, err := sameFileSystem(c.dir, dir); err != nil || !same {
			return err
		}
		all, err := c.entries()
		if err != nil {
			return err
		}
		for _, e := range all {
			free, err := disk.Free(dir)
			if err != nil || free >= bytes {
				return err
			}
			if e.shared || slices.Contains(keep, e.key) {
				continue
			}
			if err := os.Remove(e.path); err != nil {
				return err
			}
			c.logger.Info("a kept file makes room for a cycle", "file", e.path, "bytes", e.size)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("making room by removing kept files: %w", err)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func sameFileSystem(a, b string) (bool, error) {
	first, err := device(a)
	if err != nil {
		return false, err
	}
	second, err := device(b)
	return first == second, err
}
