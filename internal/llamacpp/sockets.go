package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// withoutSockets says why nothing can listen on a UNIX socket in a folder, as llama-server does
// in its working folder for the paired method; "" where it can. exFAT, SMB and some file systems
// on FUSE have none. What else is wrong with the folder is for whoever uses it to say.
func withoutSockets(dir string) string {
	probe, err := os.MkdirTemp(dir, "socket-") // a name of its own: another process may test as well
	if err != nil {
		return ""
	}
	defer os.RemoveAll(probe)
	err = listen(probe)
	for _, refusal := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EINVAL} {
		if errors.Is(err, refusal) {
			return fmt.Sprintf("the file system of %s has no UNIX sockets (%v): name a folder on a local disk as work.dir", dir, err)
		}
	}
	return ""
}

// listen listens on a socket in a directory and ends that at once.
func listen(dir string) error {
	path, done, err := shortened(filepath.Join(dir, "s"))
	if err != nil {
		return err
	}
	defer done()
	if len(path) >= longestAddress { // which is EINVAL, too: nobody can say
		return nil
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	return listener.Close()
}

// dialIn connects to a socket, whatever the length of its path.
func dialIn(ctx context.Context, path string) (net.Conn, error) {
	path, done, err := shortened(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}

// longestAddress is where the path of a socket is too long on the system with the shortest ones.
const longestAddress = 103

// shortened names a socket by a descriptor of its directory, until done is called, where the
// system has such names: an address has room for about a hundred bytes.
func shortened(path string) (short string, done func(), err error) {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	done = func() { _ = directory.Close() }
	if named := fmt.Sprintf("/proc/self/fd/%d", directory.Fd()); exists(named) {
		path = filepath.Join(named, filepath.Base(path))
	}
	return path, done, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
