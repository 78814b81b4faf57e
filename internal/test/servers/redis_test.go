package servers_test

import (
	"bufio"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

func TestRedisAnswersAndIsGoneAfterTheTest(t *testing.T) {
	var addr, socket, dir string
	t.Run("running", func(t *testing.T) {
		r := servers.StartRedis(t, servers.RedisOptions{})
		addr, socket, dir = r.Addr, r.Socket, r.Dir
		assert.Equal(t, "PONG", r.CLI("ping"))
		assert.Equal(t, "PONG", r.CLI("-u", "redis://"+addr, "ping"), "the TCP port")
		assert.DirExists(t, dir)
	})
	_, err := net.Dial("tcp", addr)
	require.Error(t, err)
	assert.NoFileExists(t, socket)
	assert.NoDirExists(t, dir)
}

func TestRedisKeepsWhatItIsToldTo(t *testing.T) {
	plain := servers.StartRedis(t, servers.RedisOptions{})
	kept := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	for _, r := range []*servers.Redis{plain, kept} {
		require.Equal(t, "OK", r.CLI("set", "k", "v"))
		r.Kill()
		_, err := net.Dial("tcp", r.Addr)
		require.Error(t, err, "killed")
		r.Restart()
	}
	assert.Empty(t, plain.CLI("get", "k"))
	assert.Equal(t, "v", kept.CLI("get", "k"))

	kept.Restart()
	assert.Equal(t, "v", kept.CLI("get", "k"), "stopped in good order")
}

func TestRedisFreezesAndThaws(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	conn, err := net.Dial("tcp", r.Addr)
	require.NoError(t, err)
	defer conn.Close()
	answers := bufio.NewReader(conn)

	r.Freeze()
	_, err = conn.Write([]byte("PING\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = answers.ReadString('\n')
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	r.Thaw()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	answer, err := answers.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "+PONG\r\n", answer)

	r.Freeze()
	r.Restart() // a frozen server can be stopped
	r.Freeze()  // and goes at cleanup
}

func TestRedisWithPasswordIsReady(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--requirepass", "secret"}})
	assert.Contains(t, r.CLI("ping"), "NOAUTH")
	assert.Contains(t, r.CLI("--no-auth-warning", "-a", "secret", "ping"), "PONG")
}

func TestRedisWithConfigIsASentinel(t *testing.T) {
	master := servers.StartRedis(t, servers.RedisOptions{})
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	sentinel := master.Sentinel(t, "")
	assert.Equal(t, []string{host, port}, strings.Fields(sentinel.CLI("sentinel", "get-master-addr-by-name", "main")))
}
