// Package disk makes the directories that cycles work in, brings files into them, hashes
// files, sees that they last, and keeps processes apart by lock files.
//
// A working directory has two parts in its parent: the directory cycle-X and the lock
// file cycle-X.lock beside it. Its owner holds an flock(2) on the lock file for as
// long as the directory is in use, and the kernel frees that lock when the owner dies,
// however it dies. So whether a directory was left behind is a question with an exact
// answer, in which neither age nor pids have a part.
//
// The lock file is made and locked before the directory is and removed after it, which
// leaves no moment in which a sweep could take a live directory for an abandoned one.
//
// A lock by flock(2) belongs to one opening of a file. Two openings exclude each other,
// be they of two processes or of two goroutines of one process; and the kernel frees the
// lock when the last descriptor of its opening is closed, so also when the process is
// killed. Descriptors opened by package os are closed on exec: children do not
// inherit the lock.
package disk
