package servers_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// panicking makes a test binary run TestPanics as what it is, a test binary that dies.
const panicking = "TESTSERVERS_PANIC"

// TestServerDiesWithAPanic starts this test binary again, which starts a Redis and dies
// of a panic that runs no cleanup.
func TestServerDiesWithAPanic(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanics$")
	cmd.Env = append(os.Environ(), panicking+"=1", "TMPDIR="+t.TempDir()) // it cleans up nothing
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	addr, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	conn, err := net.Dial("tcp", strings.TrimSpace(addr))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte("PING\r\n"))
	require.NoError(t, err)
	pong := make([]byte, len("+PONG\r\n"))
	_, err = io.ReadFull(conn, pong) // one that is not accepted yet would be reset
	require.NoError(t, err)
	require.NoError(t, stdin.Close())
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)

	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the connection ends with the server")
}

func TestPanics(t *testing.T) {
	if os.Getenv(panicking) == "" {
		return
	}
	r := servers.StartRedis(t, servers.RedisOptions{})
	_, err := os.Stdout.WriteString(r.Addr + "\n")
	require.NoError(t, err)
	_, err = io.ReadAll(os.Stdin)
	require.NoError(t, err)
	go panic("as a test may")
	select {}
}
