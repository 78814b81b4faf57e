package runner

import (
	"io/fs"
	"syscall"
)

// links counts the names of a file; 1 if the system does not report it.
func links(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Nlink)
	}
	return 1
}
