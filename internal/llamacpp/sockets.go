package llamacpp

import (
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

// listen listens on a socket in a directory and ends that at once. An address has room for about
// a hundred bytes, and a longer one is EINVAL too, so that it is named by a descriptor of the
// directory where the system has such names.
func listen(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	path := filepath.Join(dir, "s")
	if named := fmt.Sprintf("/proc/self/fd/%d", folder.Fd()); len(path) >= longestAddress {
		if _, err := os.Stat(named); err != nil { // nobody can say
			return nil
		}
		path = named + "/s"
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	return listener.Close()
}

// longestAddress is where the path of a socket is too long on the system with the shortest ones.
const longestAddress = 103
