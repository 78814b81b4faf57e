package llamacpp

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf returns the process that listens at the other end of a UNIX socket, which a wrapper
// script may have started; 0 if the system does not report it.
func peerOf(conn net.Conn) (pid int) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // which fails when the connection is closed already
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	})
	return pid
}
