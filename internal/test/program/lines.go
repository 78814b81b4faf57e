package program

import (
	"bufio"
	"os/exec"
	"testing"
)

// Lines starts a program that is not started yet, and returns the lines that it prints to its
// standard output, as they come; the channel is closed when there are no more. It fails the test
// when the program does not start. The caller waits for its end.
func Lines(t testing.TB, cmd *exec.Cmd) <-chan string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	const most = 100_000 // that wait for the test
	said := make(chan string, most)
	go func() {
		defer close(said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said <- lines.Text()
		}
	}()
	return said
}
