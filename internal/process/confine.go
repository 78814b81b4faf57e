package process

import "errors"

// Confinement is all that a child, and whatever it starts, may do with files and sockets; it is for
// good, and nobody in it gets further privileges by running a program. Where the kernel's Landlock
// is new enough, a child signals nobody but its own descendants (Linux 6.12). On amd64 and arm64, by
// seccomp, it has no sockets but streams of the UNIX domain, on which it listens; elsewhere it has no
// TCP (6.7).
//
// Rights hold for a file, or for a directory with all in it. A path that does not exist is
// left out, and symbolic links are followed.
type Confinement struct {
	Reads   []string // to read and to run
	Writes  []string // to read, write, make and remove
	Devices []string // to read, write and control, and to make or remove nothing
	// Connects allows it to connect to sockets of the UNIX domain, and to ask the kernel by netlink.
	Connects bool
}

// ErrNoLandlock says that the kernel cannot confine: it is not Linux, was built without
// Landlock, or was started without it.
var ErrNoLandlock = errors.New("this kernel has no Landlock (Linux 5.13 or newer has it, unless it was built without, or lsm= of its command line leaves it out)")
