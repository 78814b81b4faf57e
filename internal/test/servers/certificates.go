package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Certificates are files of an authority (ca.crt), and of a server and a client of 127.0.0.1
// that it vouches for (leaf.crt, leaf.key).
type Certificates struct{ dir string }

// NewCertificates makes them, good for a day.
func NewCertificates(t testing.TB) Certificates {
	t.Helper()
	c := Certificates{t.TempDir()}
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
func (c Certificates) issue(t testing.TB, name string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("making a certificate: %v", err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	for file, block := range map[string]pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		must(os.WriteFile(c.Path(file), pem.EncodeToMemory(&block), 0o600))
	}
	return key
}

// Path of one of the files.
func (c Certificates) Path(file string) string { return filepath.Join(c.dir, file) }

// RedisArgs are arguments of a redis-server that also speaks TLS, and asks for a client's
// certificate.
func (c Certificates) RedisArgs(port int) []string {
	return []string{
		"--tls-port", strconv.Itoa(port), "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", c.Path("ca.crt"), "--tls-cert-file", c.Path("leaf.crt"), "--tls-key-file", c.Path("leaf.key"),
	}
}
