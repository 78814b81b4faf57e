// Package namespace has commands of tests run in namespaces of their own.
package namespace

import (
	"os"
	"os/exec"
	"syscall"
)

// AsRoot has a command run as root: in a user namespace, unless this process is root already.
func AsRoot(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		return
	}
	attributes(cmd).Cloneflags |= syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// WithMounts has a command run as root, and nobody else sees what it mounts. Where the system
// allows nobody such a namespace, the command does not start.
func WithMounts(cmd *exec.Cmd) {
	AsRoot(cmd)
	attributes(cmd).Unshareflags |= syscall.CLONE_NEWNS // by which os/exec makes all mounts private
}

func attributes(cmd *exec.Cmd) *syscall.SysProcAttr {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return cmd.SysProcAttr
}
