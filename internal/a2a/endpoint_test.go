package a2a

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/test/logbook"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// Every kind of server, for real: what is delivered is in its stream.
func TestEndpoints(t *testing.T) {
	certificates := servers.NewCertificates(t)
	tlsPort := servers.FreePort(t)
	server := servers.StartRedis(t, servers.RedisOptions{Args: certificates.RedisArgs(tlsPort)})
	sentinel, cluster := server.Sentinel(t, ""), servers.StartCluster(t)
	const nobody = "127.0.0.1:1" // one of several that is down

	for name, c := range map[string]struct {
		cfg    config.A2A
		server *servers.Redis
	}{
		"TCP":                         {configOf("redis://" + server.Addr), server},
		"Unix socket":                 {configOf("unix://" + server.Socket), server},
		"TLS":                         {configTLS(certificates, tlsPort), server},
		"Sentinel":                    {configOf("redis+sentinel://" + sentinel.Addr + "/main/0"), server},
		"Sentinels, one of them down": {configOf("redis+sentinel://" + nobody + "," + sentinel.Addr + "/main"), server},
		"Cluster":                     {configOf("redis+cluster://" + cluster.Addr), cluster},
		"Cluster, one node down":      {configOf("redis+cluster://" + nobody + "," + cluster.Addr), cluster},
	} {
		t.Run(name, func(t *testing.T) {
			c.server.CLI("flushall")
			outbox := newMemory()
			outbox.add(3)
			relay := relayTo(t, c.cfg, outbox)
			deliver(t, relay)
			c.server.CLI("flushall")
			outbox.add(1)
			deliver(t, relay)
			assert.Equal(t, outbox.ids(), onBus(t, observer(t, c.server)))
		})
	}
	t.Run("Cluster, minimal ACL", func(t *testing.T) {
		cluster.CLI("flushall")
		aclUser(cluster, append(minimal, "+cluster|slots")...)
		outbox := newMemory()
		outbox.add(1)
		deliver(t, relayTo(t, configOf("redis+cluster://exporter:hunter2@"+cluster.Addr), outbox))
		assert.Equal(t, outbox.ids(), onBus(t, observer(t, cluster)))
	})
	t.Run("stream and marks share a slot", func(t *testing.T) {
		for _, name := range []string{"{a2a}:events", "events", "a:b", "x{y}z", "{a}{b}", "{{a}", "a}b{c}"} {
			key, err := marksKey(name)
			require.NoError(t, err)
			assert.NotEqual(t, name, key)
			assert.Equal(t, cluster.CLI("cluster", "keyslot", name), cluster.CLI("cluster", "keyslot", key), key)
		}
		for _, name := range []string{"{}", "a{}b{c}", "a}b", "{a", "}{"} {
			_, err := marksKey(name)
			assert.Error(t, err, name)
		}
	})
}

// A password that is changed in its file is used at the next connect, without a restart.
func TestPasswordIsRotated(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	aclUser(server, minimal...)
	cfg := configOf("redis://" + server.Addr)
	cfg.Username, cfg.PasswordFile = "exporter", filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		require.NoError(t, os.WriteFile(cfg.PasswordFile, []byte(password+"\n"), 0o600))
	}
	outbox := newMemory()
	book := &logbook.Book{}
	relay, err := New(cfg, Secrets{}, outbox, book.Logger())
	require.NoError(t, err)
	defer relay.server.close()
	attempt := func() string {
		outbox.add(1)
		if err := relay.attempt(t.Context(), true); err != nil {
			return reasonOf(err)
		}
		return ""
	}

	assert.Equal(t, ReasonAuth, attempt(), "there is no file")
	assert.Contains(t, book.String(), "password_file")
	write("hunter1")
	assert.Equal(t, ReasonAuth, attempt(), "another password")
	write("hunter2")
	assert.Empty(t, attempt())
	server.CLI("acl", "setuser", "exporter", "resetpass", ">hunter3")
	server.CLI("client", "kill", "user", "exporter")
	write("hunter3")
	attempt() // may find the connection dead
	assert.Empty(t, attempt())
	assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
	assert.NotContains(t, book.String(), "hunter")
}

// Sentinels have a user and a password of their own, which Redis never sees, nor they
// Redis's. A password that is changed in its file is used without a restart.
func TestSentinelsThatWantAPassword(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	aclUser(server, minimal...)
	of := func(sentinel *servers.Redis) config.A2A {
		return configOf("redis+sentinel://exporter:hunter2@" + sentinel.Addr + "/main")
	}
	outcome := func(t *testing.T, cfg config.A2A, secrets Secrets) string {
		server.CLI("flushall")
		book := &logbook.Book{}
		outbox := newMemory()
		outbox.add(2)
		require.Empty(t, Validate(cfg))
		relay, err := New(cfg, secrets, outbox, book.Logger())
		require.NoError(t, err)
		defer relay.server.close()
		err = relay.attempt(t.Context(), true)
		assert.NotContains(t, book.String(), "hunter")
		if err != nil {
			assert.NotContains(t, err.Error(), "hunter")
			return reasonOf(err)
		}
		assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
		return ""
	}

	t.Run("password", func(t *testing.T) {
		cfg := of(server.Sentinel(t, "requirepass hunter3\n"))
		assert.Equal(t, ReasonAuth, outcome(t, cfg, Secrets{}))
		assert.Contains(t, advice[ReasonAuth], "a2a.sentinel_password_file")
		assert.Equal(t, ReasonAuth, outcome(t, cfg, Secrets{SentinelPassword: "hunter2"}))
		assert.Empty(t, outcome(t, cfg, Secrets{SentinelPassword: "hunter3"}))
		cfg.SentinelPasswordFile = filepath.Join(t.TempDir(), "password")
		assert.Equal(t, ReasonAuth, outcome(t, cfg, Secrets{}), "there is no file")
		require.NoError(t, os.WriteFile(cfg.SentinelPasswordFile, []byte("hunter3\n"), 0o600))
		assert.Empty(t, outcome(t, cfg, Secrets{SentinelPassword: "hunter2"}), "the configuration comes first")
	})
	t.Run("user", func(t *testing.T) {
		cfg := of(server.Sentinel(t, "user default off\nuser watch on >hunter3 allchannels -@all +hello +auth +client|setname +ping +subscribe +sentinel|get-master-addr-by-name +sentinel|sentinels\n"))
		assert.Equal(t, ReasonAuth, outcome(t, cfg, Secrets{SentinelPassword: "hunter3"}))
		assert.Empty(t, outcome(t, cfg, Secrets{SentinelUsername: "watch", SentinelPassword: "hunter3"}))
		cfg.SentinelUsername = "watch"
		assert.Empty(t, outcome(t, cfg, Secrets{SentinelUsername: "other", SentinelPassword: "hunter3"}))
	})
	t.Run("changed", func(t *testing.T) {
		sentinel := server.Sentinel(t, "user default off\nuser watch on >hunter3 allchannels +@all\n")
		cfg := of(sentinel)
		cfg.SentinelUsername, cfg.SentinelPasswordFile = "watch", filepath.Join(t.TempDir(), "password")
		write := func(password string) {
			require.NoError(t, os.WriteFile(cfg.SentinelPasswordFile, []byte(password), 0o600))
		}
		server.CLI("flushall")
		outbox := newMemory()
		relay := relayTo(t, cfg, outbox)
		write("hunter4")
		outbox.add(1)
		assert.Equal(t, ReasonAuth, reasonOf(relay.attempt(t.Context(), true)))
		write("hunter3")
		deliver(t, relay)
		write("hunter5") // whoever asks the Sentinels anew is refused
		outbox.add(1)
		assert.Equal(t, ReasonAuth, reasonOf(relay.attempt(t.Context(), true)))
		write("hunter3")
		deliver(t, relay)
		assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
		require.NoError(t, relay.server.close())
		_, err := relay.server.offer(t.Context(), offer{})
		assert.Error(t, err, "it is closed, and stays so")
	})
}

func TestNewRefusesWhatItCannotUse(t *testing.T) {
	for want, cfg := range map[string]config.A2A{
		"a2a.url: ":    {Redis: config.Redis{URL: "http://:hunter2@h", Timeout: patience}, Stream: stream},
		"a2a.stream: ": {Redis: config.Redis{URL: "redis://h", Timeout: patience}, Stream: "{}"},
	} {
		_, err := New(cfg, Secrets{}, newMemory(), slog.New(slog.DiscardHandler))
		assert.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}
