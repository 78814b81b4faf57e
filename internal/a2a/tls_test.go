package a2a

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// certificates of an authority, and of a server and a client that it vouches for.
type certificates struct{ dir string }

func newCertificates(t *testing.T) certificates {
	t.Helper()
	c := certificates{t.TempDir()}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey := c.issue(t, "ca", ca, ca, nil)
	leaf := *ca
	leaf.SerialNumber, leaf.Subject.CommonName = big.NewInt(2), "127.0.0.1"
	leaf.IsCA, leaf.KeyUsage = false, x509.KeyUsageDigitalSignature
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	c.issue(t, "leaf", &leaf, ca, caKey)
	return c
}

// issue writes NAME.crt and NAME.key; without a key of the parent it signs itself.
func (c certificates) issue(t *testing.T, name string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for file, block := range map[string]pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		require.NoError(t, os.WriteFile(c.path(file), pem.EncodeToMemory(&block), 0o600))
	}
	return key
}

func (c certificates) path(file string) string { return filepath.Join(c.dir, file) }

// args of a redis-server that also speaks TLS, and asks for a client's certificate.
func (c certificates) args(port int) []string {
	return []string{
		"--tls-port", strconv.Itoa(port), "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", c.path("ca.crt"), "--tls-cert-file", c.path("leaf.crt"), "--tls-key-file", c.path("leaf.key"),
	}
}

// config of a client of that server.
func (c certificates) config(port int) config.A2A {
	cfg := configOf(fmt.Sprintf("rediss://127.0.0.1:%d", port))
	cfg.TLS.CAFile, cfg.TLS.CertFile, cfg.TLS.KeyFile = c.path("ca.crt"), c.path("leaf.crt"), c.path("leaf.key")
	return cfg
}
