// Package program builds programs of this module for the tests that run them.
package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// built remembers, per package and flags, the program or why there is none.
var built sync.Map // of func() (string, error)

// Build compiles the package at this path of the module, as in "./scripts/neighbour", with
// these flags of go build, and returns the program's path. Test binaries share what they
// build in .tools/built of the module, so that it is linked once; each has a copy, in a
// directory beside itself, which go test removes in the end. It fails the test when the program
// does not compile, and is safe for concurrent use, by other processes too.
func Build(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	NotShort(t)
	build, _ := built.LoadOrStore(key(pkg, flags), sync.OnceValues(func() (string, error) { return compile(pkg, flags) }))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatalf("building %s to test it: %v", pkg, err)
	}
	return path
}

// EndsAtOnce is a variable of the environment with which a program that was built with -race ends
// when main returns. Otherwise it sleeps for a second first, in which a goroutine that is left
// may race.
const EndsAtOnce = "GORACE=atexit_sleep_ms=0"

func key(pkg string, flags []string) string { return strings.Join(append(flags, pkg), " ") }

// NotShort leaves a test out of the short ones (go test -short, which is make unit): it runs
// another program than the test itself, or takes longer than a second. Build and
// servers.Tool call it. make test is never short.
func NotShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("not under -short, which is for tests that run no other program and take no second: make test has all")
	}
}

func compile(pkg string, flags []string) (path string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if err := look(root); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(self), "program")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "program")
	shared := filepath.Join(root, ".tools", "built")
	if err := os.MkdirAll(shared, 0o755); err != nil {
		return "", err
	}
	release, err := lock(filepath.Join(shared, "lock"))
	if err != nil {
		return "", err
	}
	defer release()
	kept := filepath.Join(shared, "program "+strings.ReplaceAll(key(pkg, flags), "/", "_"))
	build := exec.Command("go", append(append([]string{"build", "-o", kept}, flags...), pkg)...)
	build.Dir = root
	if !slices.Contains(flags, "-race") { // like a release, which lint has compiled already
		build.Args = slices.Insert(build.Args, 2, "-trimpath")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	// Not by this process: what it starts meanwhile would hold the file open for writing, and
	// such a file cannot be started.
	if output, err := exec.Command("cp", kept, path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copying %s: %w\n%s", kept, err, output)
	}
	return path, nil
}

// lock waits for a lock file, which others wait for until it is released.
func lock(path string) (release func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { file.Close() }, nil
}

// look reads the names of all sources. go test keeps the result of a test until a file or
// a directory changes that the test itself has read: it would take an old result for that
// of a changed program otherwise.
func look(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		return err
	})
}

// Root returns the directory of go.mod: the working directory, which is the tested
// package's, or one above it.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("there is no go.mod in %s or above it", start)
		}
	}
}
