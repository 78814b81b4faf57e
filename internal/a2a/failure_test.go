package a2a

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// shortTimeout is for servers that do not answer.
const shortTimeout = model.Duration(50 * time.Millisecond)

// aclUser is a user with the password of the tests and these rules.
func aclUser(server *servers.Redis, rules ...string) {
	server.CLI(append([]string{"acl", "setuser", "exporter", "reset", "on", ">hunter2"}, rules...)...)
}

// minimal are the rules of the package documentation.
var minimal = []string{"~{a2a}:*", "-@all", "+eval", "+evalsha", "+xadd", "+hget", "+hset"}

// without are the minimal rules, less one.
func without(rule string) []string {
	return slices.DeleteFunc(slices.Clone(minimal), func(r string) bool { return r == rule })
}

// Every refusal of a real server: it has a reason, changes nothing, and once it is
// mended, all is delivered once and in order.
func TestRefusals(t *testing.T) {
	asUser := func(r *servers.Redis) config.A2A { return configOf("redis://exporter:hunter2@" + r.Addr) }
	deny := func(rules ...string) func(*testing.T, *servers.Redis) {
		return func(_ *testing.T, r *servers.Redis) { aclUser(r, rules...) }
	}
	allow := func(_ *testing.T, r *servers.Redis) { aclUser(r, minimal...) }

	cases := map[string]struct {
		config func(*servers.Redis) config.A2A // default: by TCP, as the default user
		refuse func(*testing.T, *servers.Redis)
		mend   func(*testing.T, *servers.Redis)
		reason string
		// quiet says that an attempt without an event notices nothing.
		quiet bool
	}{
		"the server is down": {
			refuse: func(_ *testing.T, r *servers.Redis) { r.Kill() },
			mend:   func(_ *testing.T, r *servers.Redis) { r.Restart() },
			reason: ReasonConnection,
		},
		"a replica": {
			refuse: func(t *testing.T, r *servers.Redis) {
				primary := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--repl-diskless-sync-delay", "0"}})
				host, port, err := net.SplitHostPort(primary.Addr)
				require.NoError(t, err)
				r.CLI("replicaof", host, port)
				waitFor(t, r, "master_link_status:up", "info", "replication")
			},
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("replicaof", "no", "one") },
			reason: ReasonReadOnly,
		},
		"maxmemory": {
			refuse: func(_ *testing.T, r *servers.Redis) { r.CLI("config", "set", "maxmemory", "1") },
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("config", "set", "maxmemory", "0") },
			reason: ReasonOutOfMemory, quiet: true,
		},
		"a snapshot that cannot be written": {
			refuse: func(t *testing.T, r *servers.Redis) {
				require.NoError(t, os.Mkdir(filepath.Join(r.Dir, "dump.rdb"), 0o700)) // in its way
				r.CLI("config", "set", "save", "3600 1")
				r.CLI("bgsave")
				waitFor(t, r, "rdb_last_bgsave_status:err", "info", "persistence")
			},
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("config", "set", "save", "") },
			reason: ReasonPersistence, quiet: true,
		},
		"replicas that are not there": {
			refuse: func(_ *testing.T, r *servers.Redis) { r.CLI("config", "set", "min-replicas-to-write", "1") },
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("config", "set", "min-replicas-to-write", "0") },
			reason: ReasonReplicas, quiet: true,
		},
		"something else under the stream": {
			refuse: func(_ *testing.T, r *servers.Redis) { r.CLI("rename", stream, "aside"); r.CLI("set", stream, "x") },
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("rename", "aside", stream) },
			reason: ReasonWrongType, quiet: true,
		},
		"something else under the marks": {
			refuse: func(_ *testing.T, r *servers.Redis) { r.CLI("rename", marks, "aside"); r.CLI("set", marks, "x") },
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("rename", "aside", marks) },
			reason: ReasonWrongType,
		},
		"other things in the marks": {
			refuse: func(_ *testing.T, r *servers.Redis) {
				r.CLI("copy", marks, "aside")
				r.CLI("hset", marks, r.CLI("hkeys", marks), "forty-two")
			},
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("rename", "aside", marks) },
			reason: ReasonWrongType,
		},
		"no password": {
			refuse: func(_ *testing.T, r *servers.Redis) {
				r.CLI("config", "set", "requirepass", "hunter2")
				r.CLI("-a", "hunter2", "client", "kill", "type", "normal")
			},
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("-a", "hunter2", "config", "set", "requirepass", "") },
			reason: ReasonAuth,
		},
		"another password": {
			config: asUser,
			refuse: func(_ *testing.T, r *servers.Redis) {
				r.CLI("acl", "setuser", "exporter", "resetpass", ">another")
				r.CLI("client", "kill", "user", "exporter")
			},
			mend:   func(_ *testing.T, r *servers.Redis) { r.CLI("acl", "setuser", "exporter", ">hunter2") },
			reason: ReasonAuth,
		},
		"ACL without evalsha": {config: asUser, refuse: deny(without("+evalsha")...), mend: allow, reason: ReasonPermission},
		"ACL without eval": {
			config: asUser,
			refuse: func(_ *testing.T, r *servers.Redis) { aclUser(r, without("+eval")...); r.CLI("script", "flush") },
			mend:   allow, reason: ReasonPermission,
		},
		"ACL without hget":         {config: asUser, refuse: deny(without("+hget")...), mend: allow, reason: ReasonPermission},
		"ACL without hset":         {config: asUser, refuse: deny(without("+hset")...), mend: allow, reason: ReasonPermission, quiet: true},
		"ACL without xadd":         {config: asUser, refuse: deny(without("+xadd")...), mend: allow, reason: ReasonPermission, quiet: true},
		"ACL without the keys":     {config: asUser, refuse: deny(without("~{a2a}:*")...), mend: allow, reason: ReasonPermission},
		"ACL without the stream":   {config: asUser, refuse: deny(append(without("~{a2a}:*"), "~"+marks)...), mend: allow, reason: ReasonPermission},
		"ACL with a read-only key": {config: asUser, refuse: deny(append(without("~{a2a}:*"), "%R~{a2a}:*")...), mend: allow, reason: ReasonPermission, quiet: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			allow(t, server)
			if c.config == nil {
				c.config = func(r *servers.Redis) config.A2A { return configOf("redis://" + r.Addr) }
			}
			outbox := newMemory()
			relay := relayTo(t, c.config(server), outbox)
			outbox.add(1)
			deliver(t, relay)

			c.refuse(t, server)
			if !c.quiet {
				assert.Equal(t, c.reason, reasonOf(relay.attempt(t.Context(), true)), "with nothing to publish")
			}
			outbox.add(2)
			for range 2 {
				err := relay.attempt(t.Context(), false)
				require.Error(t, err)
				assert.Equal(t, c.reason, reasonOf(err), "%v", err)
				assert.NotContains(t, err.Error(), "hunter2")
			}
			assert.False(t, relay.Up())
			assert.Equal(t, c.reason, relay.Status().Reason)
			assert.Equal(t, 2, outbox.State().Outbox.Pending)
			for _, reason := range outbox.failures {
				assert.Equal(t, c.reason, reason)
			}

			c.mend(t, server)
			// A dead connection is found dead first; a relay that runs tries again.
			for range 3 {
				if relay.attempt(t.Context(), true) == nil {
					break
				}
			}
			assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
			assert.Zero(t, outbox.State().Outbox.Pending)
			assert.True(t, relay.Up())
			assert.Empty(t, outbox.whys)
		})
	}
}

// waitFor asks a server until its answer has the text.
func waitFor(t *testing.T, server *servers.Redis, text string, command ...string) {
	t.Helper()
	for !strings.Contains(server.CLI(command...), text) {
		require.NoError(t, t.Context().Err())
	}
}

// The rules of the package documentation suffice, whether the script is known or not.
func TestMinimalACL(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	aclUser(server, minimal...)
	outbox := newMemory()
	relay := relayTo(t, configOf("redis://exporter:hunter2@"+server.Addr), outbox)
	for range 2 {
		outbox.add(2)
		deliver(t, relay)
		server.CLI("script", "flush")
	}
	assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
	assert.Empty(t, server.CLI("acl", "log"), "nothing was refused on the way")
	assert.Contains(t, server.CLI("client", "list"), "name=quant-exporter ")

	t.Run("with select, for a database", func(t *testing.T) {
		aclUser(server, append(minimal, "+select")...)
		outbox := newMemory()
		outbox.add(1)
		deliver(t, relayTo(t, configOf("redis://exporter:hunter2@"+server.Addr+"/3"), outbox))
		assert.Equal(t, "1", server.CLI("-n", "3", "xlen", stream))
	})
}

// The script of a later version, or of Redis 6, answers in other words.
func TestReasonOfAReply(t *testing.T) {
	for reply, reason := range map[string]string{
		"LOADING Redis is loading the dataset in memory":                                        ReasonLoading,
		"NOAUTH Authentication required.":                                                       ReasonAuth,
		"WRONGPASS invalid username-password pair or user is disabled.":                         ReasonAuth,
		"ERR invalid password":                                                                  ReasonAuth,
		"NOPERM this user has no permissions to run the 'evalsha' command or its subcommand":    ReasonPermission,
		"NOPERM ACL failure in script: User exporter has no permissions to run the 'xadd'":      ReasonPermission,
		"ERR The user executing the script can't run this command or subcommand script: 0a":     ReasonPermission,
		"READONLY You can't write against a read only replica.":                                 ReasonReadOnly,
		"ERR Error running script (call to f_0a): @user_script:7: @user_script: 7: -READONLY Y": ReasonReadOnly,
		"OOM command not allowed when used memory > 'maxmemory'. script: 0a":                    ReasonOutOfMemory,
		"WRONGTYPE Operation against a key holding the wrong kind of value":                     ReasonWrongType,
		"ERR Error running script (call to f_0a): @user_script:7: WRONGTYPE Operation against":  ReasonWrongType,
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to":       ReasonPersistence,
		"MISCONF Errors writing to the AOF file: No space left on device":                       ReasonPersistence,
		"NOREPLICAS Not enough good replicas to write.":                                         ReasonReplicas,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":      ReasonReadOnly,
		"CLUSTERDOWN Hash slot not served":                                                      ReasonOther,
		"ERR max number of clients reached":                                                     ReasonOther,
	} {
		assert.Equal(t, reason, reasonOfReply(reply), reply)
	}
	for _, reason := range Reasons() {
		assert.NotEmpty(t, advice[reason], reason)
	}
	assert.Len(t, advice, len(Reasons()))
}

// A frozen server costs the timeout, and no more than one entry.
func TestTimeout(t *testing.T) {
	certificates := servers.NewCertificates(t)
	tlsPort := servers.FreePort(t)
	server := servers.StartRedis(t, servers.RedisOptions{Args: certificates.RedisArgs(tlsPort)})
	for name, cfg := range map[string]config.A2A{
		"TCP":  configOf("redis://" + server.Addr),
		"Unix": configOf("unix://" + server.Socket),
		"TLS":  configTLS(certificates, tlsPort),
	} {
		t.Run(name, func(t *testing.T) {
			server.CLI("flushall")
			patient, hasty := cfg, cfg
			hasty.Timeout = shortTimeout
			outbox := newMemory()
			relay := relayTo(t, patient, outbox)
			outbox.add(1)
			deliver(t, relay)
			server.Freeze()
			outbox.add(1)
			impatient := relayTo(t, hasty, outbox)
			for range 3 {
				assert.Equal(t, ReasonTimeout, reasonOf(impatient.attempt(t.Context(), false)))
			}
			// A deadline that is earlier than the timeout counts, too.
			relaxed := cfg
			relaxed.Timeout = never
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(shortTimeout))
			_, err := relayTo(t, relaxed, outbox).server.offer(ctx, offer{})
			cancel()
			assert.Equal(t, ReasonTimeout, reasonOf(err), "%v", err)
			server.Thaw() // it does now what it was asked three times
			deliver(t, relay)
			assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
		})
	}
}

func TestLoading(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{Args: []string{
		"--enable-debug-command", "local",
		// So that it looks after its clients while it loads.
		"--loading-process-events-interval-bytes", "1024",
	}})
	outbox := newMemory()
	relay := relayTo(t, configOf("redis://"+server.Addr), outbox)
	outbox.add(1)
	deliver(t, relay)
	server.CLI("debug", "populate", "100000")
	server.CLI("config", "set", "key-load-delay", "1000") // microseconds: 100 s in all

	client := observer(t, server)
	reloaded := make(chan error)
	go func() { reloaded <- client.Do(t.Context(), "debug", "reload").Err() }()
	waitFor(t, server, "LOADING", "dbsize")
	outbox.add(1)
	err := relay.attempt(t.Context(), false)
	assert.Equal(t, ReasonLoading, reasonOf(err), "%v", err)

	server.CLI("config", "set", "key-load-delay", "0")
	require.NoError(t, <-reloaded)
	deliver(t, relay)
	assert.Equal(t, outbox.ids(), onBus(t, client))
}

func TestTLSRefusals(t *testing.T) {
	certificates, others := servers.NewCertificates(t), servers.NewCertificates(t)
	tlsPort := servers.FreePort(t)
	server := servers.StartRedis(t, servers.RedisOptions{Args: certificates.RedisArgs(tlsPort)})
	good := configTLS(certificates, tlsPort)

	unknownServer, unknownClient, noClient, wrongName, noTLS := good, good, good, good, good
	unknownServer.TLS.CAFile = others.Path("ca.crt")
	unknownClient.TLS.CertFile, unknownClient.TLS.KeyFile = others.Path("leaf.crt"), others.Path("leaf.key")
	noClient.TLS.CertFile, noClient.TLS.KeyFile = "", ""
	wrongName.TLS.ServerName = "redis.example.org"
	noTLS.URL = "rediss://" + server.Addr
	noTLS.Timeout = shortTimeout
	plain := configOf("redis://" + strings.TrimPrefix(good.URL, "rediss://"))
	// A server that refuses us says why, and hangs up: chance decides which of the two is
	// seen first.
	refused := []string{ReasonTLS, ReasonConnection}
	for name, c := range map[string]struct {
		cfg     config.A2A
		reasons []string
	}{
		"a server that an unknown authority vouches for":       {unknownServer, []string{ReasonTLS}},
		"a server under another name":                          {wrongName, []string{ReasonTLS}},
		"a client that an unknown authority vouches for":       {unknownClient, refused},
		"a client without a certificate":                       {noClient, refused},
		"a client without TLS":                                 {plain, refused},
		"a server without TLS, which waits for the line's end": {noTLS, []string{ReasonTimeout}},
	} {
		t.Run(name, func(t *testing.T) {
			err := relayTo(t, c.cfg, newMemory()).attempt(t.Context(), true)
			assert.Contains(t, c.reasons, reasonOf(err), "%v", err)
		})
	}
	t.Run("a file that is not there", func(t *testing.T) {
		cfg := good
		cfg.TLS.CAFile = certificates.Path("none")
		_, err := New(cfg, Secrets{}, newMemory(), nil)
		assert.ErrorContains(t, err, "a2a.tls_config: ")
	})
}

// A store that cannot be read or written is not the bus's fault.
func TestBrokenStore(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	outbox := newMemory()
	relay := relayTo(t, configOf("redis://"+server.Addr), outbox)
	deliver(t, relay)
	outbox.add(1)
	outbox.broken = assert.AnError
	err := relay.attempt(t.Context(), true)
	assert.ErrorIs(t, err, assert.AnError)
	assert.Equal(t, ReasonStore, reasonOf(err))
	assert.True(t, relay.Up())
	assert.Equal(t, []string{ReasonStore}, outbox.failures)
}
