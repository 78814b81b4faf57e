package process

import "errors"

// Confinement is all that a child, and whatever it starts, may do with files; it is for good,
// and nobody in it gets further privileges by running a program. Where the kernel's Landlock
// is new enough, a child can use no TCP either (Linux 6.7) and signal nobody but its own
// descendants (6.12). Sockets of the UNIX domain and UDP stay as they are.
//
// Rights hold for a file, or for a directory with all in it. A path that does not exist is
// left out, and symbolic links are followed.
type Confinement struct {
	Reads   []string // to read and to run
	Writes  []string // to read, write, make and remove
	Devices []string // to read, write and control, and to make or remove nothing
}

// ErrNoLandlock says that the kernel cannot confine: it is not Linux, was built without
// Landlock, or was started without it.
var ErrNoLandlock = errors.New("this kernel has no Landlock (Linux 5.13 or newer has it, unless it was built without, or lsm= of its command line leaves it out)")
