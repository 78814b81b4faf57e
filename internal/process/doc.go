// Package process runs one child process safely: in a process group of its own, with
// a deadline, with bounded memory for whatever it prints, and with nothing of the
// group left when Run returns.
//
// # How a child ends
//
// When the context is cancelled, the deadline passes or the child floods its standard
// output, the whole group gets SIGTERM and, [Grace] later, SIGKILL. When the leader
// ends by itself, whoever is left in its group is killed at once: a helper that the
// leader started does not outlive it. The leader is reaped only after that, so that its
// number is still reserved and the signal cannot hit an unrelated group.
//
// After that Run waits until both pipes are closed, which is when every process that
// inherited them is gone, but no longer than [Grace].
//
// # When our own process is killed
//
// On Linux the leader is killed with us (PR_SET_PDEATHSIG), also by SIGKILL. The
// kernel ties that to the thread that started the child, therefore Run keeps its
// goroutine on one thread until it returns. It concerns the leader only: a child of
// the leader survives us if it does not notice that its pipes are broken. [EndMarked]
// finds it by its environment, at the next start.
//
// # What a child may do
//
// A [Confinement] is the kernel's (Landlock, and seccomp for sockets). It belongs to the thread that the child is
// started from, which ends with Run: nothing has to run between us and the tool, and no
// other thread of ours is confined. A library that confines a whole process is of no use
// for that (go-landlock restricts all threads of its caller), and none confines one child:
// therefore the system calls are made here. (go-seccomp-bpf does for a thread what is needed, but
// lets the calls of an amd64's programs of 32 bits through.)
//
// # What is not covered
//
// A descendant that leaves the group (setsid) is found on Linux only, by a program that
// has called [AdoptStrays]. A process in uninterruptible sleep, waiting for a disk or a network file system, cannot be
// killed by anyone, and Run waits for it.
package process
