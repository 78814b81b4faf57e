package host

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// holdEnv makes the test binary a process that takes the lock at this path and keeps it
// until it is killed or its standard input ends.
const (
	holdEnv  = "QUANT_EXPORTER_TEST_HOLD"
	childEnv = "QUANT_EXPORTER_TEST_CHILD"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		if err := hold(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(childEnv) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold takes the lock, starts a child that outlives it (as a tool of llama.cpp might),
// says so and waits.
func hold(path string) error {
	if _, err := NewLock(path).Acquire(context.Background(), false, nil); err != nil {
		return err
	}
	child := exec.Command(os.Args[0])
	child.Env = []string{childEnv + "=1"}
	child.Stdin = os.Stdin
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println("held")
	return child.Wait()
}

// startHolder runs a holder and returns once it has the lock. Its child lives to the
// end of the test.
func startHolder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	holder := exec.Command(os.Args[0], "--flag")
	holder.Env = append(os.Environ(), holdEnv+"="+path)
	in, out, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { in.Close(); out.Close() })
	holder.Stdin = in // its child's, too, which thus ends with the test
	stdout, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held", strings.TrimSpace(line))
	return holder
}
