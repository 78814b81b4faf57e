package a2a

import (
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// configTLS is of a client of a server with these certificates.
func configTLS(c servers.Certificates, port int) config.A2A {
	cfg := configOf(fmt.Sprintf("rediss://127.0.0.1:%d", port))
	cfg.TLS.CAFile, cfg.TLS.CertFile, cfg.TLS.KeyFile = c.Path("ca.crt"), c.Path("leaf.crt"), c.Path("leaf.key")
	return cfg
}
