package fleet_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

func fleetAt(url string) config.Fleet {
	cfg := config.DefaultFleet()
	cfg.URL = url
	return cfg
}

// Every kind of server, for real: a cycle is given, begun, given back, and done.
func TestEndpoints(t *testing.T) {
	program.NotShort(t)
	certificates, tlsPort := servers.NewCertificates(t), servers.FreePort(t)
	server := servers.StartRedis(t, servers.RedisOptions{Args: certificates.RedisArgs(tlsPort)})
	sentinel, cluster := server.Sentinel(t, ""), servers.StartCluster(t)
	overTLS := fleetAt(fmt.Sprintf("rediss://127.0.0.1:%d", tlsPort))
	overTLS.TLS.CAFile, overTLS.TLS.CertFile, overTLS.TLS.KeyFile = certificates.Path("ca.crt"), certificates.Path("leaf.crt"), certificates.Path("leaf.key")

	for name, c := range map[string]struct {
		cfg    config.Fleet
		server *servers.Redis
	}{
		"Unix socket":      {fleetAt("unix://" + server.Socket), server},
		"TLS":              {overTLS, server},
		"another database": {fleetAt("redis://" + server.Addr + "/7"), server},
		"Sentinel":         {fleetAt("redis+sentinel://" + sentinel.Addr + "/main/0"), server},
		"Cluster":          {fleetAt("redis+cluster://" + cluster.Addr), cluster},
	} {
		t.Run(name, func(t *testing.T) {
			c.server.CLI("flushall")
			b := newBench(t, c.server)
			b.config = c.cfg
			b.coordinator = b.another()
			require.NoError(t, fleet.Check(t.Context(), b.config, redisconn.Secrets{}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go b.coordinator.Run(ctx, func() {})
			_, stop := b.worker("first", untilCanceled)
			g := newCycle().by(t.Context(), b.coordinator)
			<-g.begun
			stop()
			b.worker("second", quick)
			require.NoError(t, g.wait(t))
			assert.Equal(t, []string{"Q2_K kept first", "Q8_0 kept second"}, g.outcomes())
			require.NoError(t, b.coordinator.End(t.Context(), &g.cycle))
			require.Eventually(t, func() bool { s := b.coordinator.Status(); return s.Up && s.Count("h100") > 0 }, patience, 50*time.Millisecond)
		})
	}
}

// What keeps a fleet from its Redis is said by --config.check, with what to do.
func TestCheckSaysWhatCannotBe(t *testing.T) {
	program.NotShort(t)
	certificates, others, tlsPort := servers.NewCertificates(t), servers.NewCertificates(t), servers.FreePort(t)
	server := servers.StartRedis(t, servers.RedisOptions{Args: certificates.RedisArgs(tlsPort)})
	server.CLI("acl", "setuser", "blind", "on", ">hunter2", "~*", "+ping", "+hello")
	overTLS := fleetAt(fmt.Sprintf("rediss://127.0.0.1:%d", tlsPort))
	overTLS.TLS.CAFile, overTLS.TLS.CertFile, overTLS.TLS.KeyFile = others.Path("ca.crt"), certificates.Path("leaf.crt"), certificates.Path("leaf.key")
	unsigned := overTLS
	unsigned.TLS.CAFile, unsigned.TLS.CertFile, unsigned.TLS.KeyFile = certificates.Path("ca.crt"), "", ""
	missing := overTLS
	missing.TLS.CAFile = certificates.Path("none")
	for name, test := range map[string]struct {
		cfg  config.Fleet
		want string
	}{
		"nobody listens":       {fleetAt("redis://127.0.0.1:1"), "connection refused"},
		"an unknown authority": {overTLS, "unknown authority"},
		// In TLS 1.3 the server refuses a client after the client's first request, and may be gone
		// before the client has read why.
		"no certificate of ours": {unsigned, "certificate required|reset by peer|broken pipe|EOF"},
		"no such file":           {missing, "no such file"},
		"a wrong password":       {fleetAt("redis://blind:hunter1@" + server.Addr), "WRONGPASS"},
		"too few rights":         {fleetAt("redis://blind:hunter2@" + server.Addr), "NOPERM"},
		"not a cluster":          {fleetAt("redis+cluster://" + server.Addr), "cluster support disabled"},
		"no Sentinel":            {fleetAt("redis+sentinel://" + server.Addr + "/main"), "fleet.url"},
	} {
		t.Run(name, func(t *testing.T) {
			err := fleet.Check(t.Context(), test.cfg, redisconn.Secrets{})
			require.Error(t, err)
			require.Regexp(t, test.want, err.Error())
			assert.NotContains(t, err.Error(), "hunter")
		})
	}
}
