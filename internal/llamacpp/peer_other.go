//go:build !linux

package llamacpp

import "net"

// peerOf is 0: there is nothing to be watched.
func peerOf(net.Conn) int { return 0 }
