package process

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, little-endian (Linux's Documentation/userspace-api/seccomp_filter.rst).
const (
	callOffset, architectureOffset, firstArgument, secondArgument = 0, 4, 16, 24

	x32Calls     = 1 << 30 // the first call of the ABI that amd64 has for pointers of 32 bits
	typeOfSocket = 0xf     // without SOCK_CLOEXEC and SOCK_NONBLOCK
)

var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// denySockets leaves the calling thread, and whatever it starts, no sockets but streams of the
// UNIX domain, on which it listens; connects allows it to connect to others, too. It does nothing
// where the kernel or the container refuses seccomp filters, or on other architectures. Programs
// of a second architecture that the CPU has, such as 32-bit ones, are refused, because their calls have
// other numbers. The caller has set PR_SET_NO_NEW_PRIVS.
func denySockets(connects bool) error {
	architecture, known := architectures[runtime.GOARCH]
	if !known {
		return nil
	}
	raw, err := bpf.Assemble(socketFilter(architecture, connects))
	if err != nil {
		return fmt.Errorf("assembling a seccomp filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Kernels before 5.16 would slow the thread down otherwise, against Spectre, and so what is measured.
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, uintptr(unsafe.Pointer(&program))); errno == 0 {
		return nil
	}
	err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0) // which units of systemd allow
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("setting a seccomp filter: %w", err)
	}
	return nil
}

func socketFilter(architecture uint32, connects bool) []bpf.Instruction {
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	deny := func(errno unix.Errno) bpf.Instruction {
		return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	}
	unless := func(value uint32) bpf.Instruction { // the next instruction is for this value
		return bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value, SkipTrue: 1}
	}
	load := func(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 4} }
	further := deny(unix.EACCES)
	if connects {
		further = allow
	}
	return []bpf.Instruction{
		load(architectureOffset),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: architecture, SkipTrue: 1},
		deny(unix.ENOSYS),
		load(callOffset),
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32Calls, SkipTrue: 1},
		deny(unix.ENOSYS),
		unless(unix.SYS_IO_URING_SETUP), // which makes sockets, too
		deny(unix.ENOSYS),
		unless(unix.SYS_CONNECT),
		further,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_SOCKET, SkipTrue: 1},
		allow,
		load(firstArgument),
		unless(unix.AF_NETLINK),
		further,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_UNIX, SkipTrue: 1},
		deny(unix.EACCES),
		load(secondArgument),
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: typeOfSocket},
		unless(unix.SOCK_STREAM),
		allow,
		unless(unix.SOCK_SEQPACKET),
		allow,
		deny(unix.EACCES), // a datagram reaches others without connect(2)
	}
}
