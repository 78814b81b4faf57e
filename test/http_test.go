package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// never is a schedule that is not due in a test.
const never = quick + `
schedule: [{name: never, cron: "@yearly", targets: [Q2_K]}]
`

func newIdlePlace(t *testing.T) *place {
	t.Helper()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(never)
	return p
}

// write puts a file into the place, and gives its path.
func (p *place) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	require.NoError(p.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// certify makes an authority, ca.crt, has it certify 127.0.0.1 in tls.crt and tls.key, and
// gives a client that trusts it and no other.
func (p *place) certify() *http.Client {
	p.t.Helper()
	issue := func(template, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(p.t, err)
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if issuer == nil {
			issuer, issuerKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
		require.NoError(p.t, err)
		certificate, err := x509.ParseCertificate(der)
		require.NoError(p.t, err)
		return certificate, key
	}
	authority, authorityKey := issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the test's own authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	certificate, key := issue(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, authority, authorityKey)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(p.t, err)
	p.write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})))
	p.write("tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})))
	p.write("tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	trusted := x509.NewCertPool()
	trusted.AddCert(authority)
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted}}}
}

// secured writes a --web.config.file that asks for TLS, by what certify wrote, and the
// password "right" of the user prometheus.
func (p *place) secured() string {
	p.t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	require.NoError(p.t, err)
	return p.write("web.yml", fmt.Sprintf("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\nbasic_auth_users: {prometheus: %q}\n", hash))
}

func TestTLSAndBasicAuthentication(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	client, web := p.certify(), p.secured()
	s := p.serve("--web.config.file", web)
	secured := strings.Replace(s.url, "http://", "https://", 1)
	as := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	for path, holds := range map[string]string{"/metrics": "quant_exporter_build_info", "/": "quant-exporter", "/config": "threshold", "/-/healthy": "healthy"} {
		response, body := s.ask(client, http.MethodGet, secured+path, as("prometheus", "right"))
		assert.Equal(t, http.StatusOK, response.StatusCode, path)
		assert.Contains(t, body, holds)
		for _, edit := range []func(*http.Request){as("prometheus", "wrong"), as("root", "right"), header("X-Nothing", "")} {
			response, body = s.ask(client, http.MethodGet, secured+path, edit)
			assert.Equal(t, http.StatusUnauthorized, response.StatusCode, path)
			assert.NotContains(t, body, holds)
		}
	}
	status, _ := s.get("/metrics")
	assert.Equal(t, http.StatusBadRequest, status, "plain HTTP is refused")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, secured, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		response.Body.Close()
	}
	require.ErrorAs(t, err, new(*tls.CertificateVerificationError), "who does not trust the authority is warned")
}

func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	s := p.serve("--web.listen-address=127.0.0.1:0", "--web.listen-address=127.0.0.1:0")
	lines := s.loggedTimes(2, listening.String())
	require.Len(t, lines, 2)
	addresses := map[string]bool{}
	for _, line := range lines {
		address := listening.FindStringSubmatch(line)[1]
		addresses[address] = true
		response, _ := s.ask(http.DefaultClient, http.MethodGet, "http://"+address+"/-/healthy")
		assert.Equal(t, http.StatusOK, response.StatusCode)
	}
	assert.Len(t, addresses, 2)
}

// systemd opens the socket, and the exporter finds it as file descriptor 3.
func TestSystemdSocket(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	socket, err := listener.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	address := listener.Addr().String()
	require.NoError(t, listener.Close()) // the file keeps the socket open

	p.env = []string{"LISTEN_FDS=1"}
	cmd, _ := p.command("--web.systemd-socket", "--model-dir", p.models, "--llamacpp.dir", p.tools)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.ExtraFiles = []*os.File{socket}
	s := p.begin(cmd)
	s.endsWithTest()
	s.mustLog("msg=ready")
	response, _ := s.ask(http.DefaultClient, http.MethodGet, "http://"+address+"/-/ready")
	assert.Equal(t, http.StatusOK, response.StatusCode)
	assert.Zero(t, s.stop())
}

// What keeps the exporter from serving ends it at once, before it begins a cycle.
func TestStartThatCannotServe(t *testing.T) {
	t.Parallel()
	p := newPlace(t, fakellama.Behaviour{})
	p.configure(once)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	unknown := p.write("unknown.yml", "tls_server: {}\n")
	noKey := p.write("nokey.yml", "tls_server_config: {cert_file: no.crt, key_file: no.key}\n")
	missing := filepath.Join(p.dir, "missing.yml")
	for name, test := range map[string]struct {
		args []string
		says []string
	}{
		"address in use":           {[]string{"--web.listen-address=" + taken.Addr().String()}, []string{"--web.listen-address", taken.Addr().String(), "in use"}},
		"one of two addresses":     {[]string{"--web.listen-address=127.0.0.1:0", "--web.listen-address=" + taken.Addr().String()}, []string{taken.Addr().String()}},
		"no web.config.file":       {[]string{"--web.config.file=" + missing}, []string{"--web.config.file", missing, "no such file"}},
		"unknown key in it":        {[]string{"--web.config.file=" + unknown}, []string{"--web.config.file", unknown, "tls_server"}},
		"certificate missing":      {[]string{"--web.config.file=" + noKey}, []string{"--web.config.file", noKey, "no.crt"}},
		"no socket of systemd's":   {[]string{"--web.systemd-socket"}, []string{"--web.systemd-socket", "no socket"}},
		"external URL":             {[]string{"--web.external-url=example.org"}, []string{"--web.external-url", "https://example.org"}},
		"route prefix":             {[]string{"--web.route-prefix=/a b"}, []string{"--web.route-prefix", "/quant"}},
		"--config.check, missing":  {[]string{"--config.check", "--web.config.file=" + missing}, []string{"--web.config.file", missing}},
		"--config.check, bad file": {[]string{"--config.check", "--web.config.file=" + unknown}, []string{"--web.config.file", unknown, "tls_server"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.start(append(test.args, "--model-dir", p.models, "--llamacpp.dir", p.tools)...)
			assert.Equal(t, exitError, got.status)
			for _, text := range test.says {
				assert.Contains(t, got.stderr, text)
			}
			assert.NotContains(t, got.stdout, "valid")
		})
	}
	for _, call := range fakellama.Calls(t, p.tools) {
		assert.NotEmpty(t, call.Step, "%s was asked for more than its help", call.Tool) // which --config.check does
	}
	cycles, err := p.opened().Cycles(0, 0)
	require.NoError(t, err)
	assert.Empty(t, cycles)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	s := p.serve()
	s.mustLog("msg=ready")
	for path, holds := range map[string]string{
		"/":                               "never",
		"/-/healthy":                      "healthy",
		"/-/ready":                        "ready",
		"/metrics":                        "quant_exporter_build_info",
		"/config":                         "@yearly",
		"/favicon.ico":                    "<svg",
		"/api/v1/events":                  `"status":"success"`,
		"/api/v1/export":                  `"kind":"meta"`,
		"/debug/pprof/":                   "goroutine",
		"/debug/pprof/goroutine?debug=1":  "goroutine profile",
		"/debug/pprof/heap?debug=1":       "heap profile",
		"/debug/pprof/cmdline":            "--web.listen-address",
		"/debug/pprof/trace?seconds=0.01": "",
	} {
		status, body := s.get(path)
		assert.Equal(t, http.StatusOK, status, path)
		assert.Contains(t, body, holds, path)
	}
	for _, path := range []string{"/nothing", "/metrics/", "/-/", "/api/v1/nothing", "/static/nothing.css", "/debug/pprof/nothing", "/favicon.png"} {
		status, _ := s.get(path)
		assert.Equal(t, http.StatusNotFound, status, path)
	}
	// What acts is off, and says which flag turns it on.
	for path, flag := range map[string]string{"/-/reload": "--web.enable-lifecycle", "/api/v1/admin/backup": "--web.enable-admin-api"} {
		status, body := s.do(http.MethodPost, path)
		assert.Equal(t, http.StatusForbidden, status)
		assert.Contains(t, body, flag)
	}
}

func TestRequestsOfOtherSitesChangeNothing(t *testing.T) {
	t.Parallel()
	p := newIdlePlace(t)
	s := p.serve("--web.enable-lifecycle", "--web.enable-admin-api")
	s.mustLog("msg=ready")
	p.configure("nonsense: true\n")
	for _, path := range []string{"/-/reload", "/api/v1/admin/backup"} {
		for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
			status, body := s.do(http.MethodPost, path, header(name, value))
			assert.Equal(t, http.StatusForbidden, status)
			assert.Contains(t, body, "another site")
		}
	}
	s.shows(1, "quant_exporter_config_last_reload_successful")
	status, body := s.do(http.MethodPost, "/-/reload")
	assert.Equal(t, http.StatusInternalServerError, status)
	assert.Contains(t, body, "nonsense")
	s.shows(0, "quant_exporter_config_last_reload_successful")
}

func TestBehindAReverseProxy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args          []string
		prefix, links string
	}{
		"the proxy passes the path on":     {[]string{"--web.external-url=https://example.org/quant"}, "/quant", "/quant"},
		"the proxy takes the path off":     {[]string{"--web.external-url=https://example.org/quant", "--web.route-prefix=/"}, "", "/quant"},
		"a prefix without an external URL": {[]string{"--web.route-prefix=/below"}, "/below", "/below"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newIdlePlace(t).serve(test.args...)
			for _, path := range []string{"/metrics", "/-/healthy", "/debug/pprof/"} {
				status, _ := s.get(test.prefix + path)
				assert.Equal(t, http.StatusOK, status, path)
				status, _ = s.get("/elsewhere" + path)
				assert.Equal(t, http.StatusNotFound, status, path)
			}
			_, page := s.get(test.prefix + "/")
			assert.Contains(t, page, `href="`+test.links+`/metrics"`)
		})
	}
}

// Wherever a password stands, nobody is told.
func TestSecretsAreShownNowhere(t *testing.T) {
	t.Parallel()
	const secret = "hunter2%26more" // escaped, as in a URL
	const plain = "hunter2&more"
	for name, test := range map[string]struct{ config, env string }{
		"in the URL":         {"a2a: {url: 'redis://agent:" + secret + "@" + nobody + "/0'}\n", "X=y"},
		"in a file":          {"a2a: {url: 'redis://" + nobody + "/0', username: agent, password_file: password}\n", "X=y"},
		"in the environment": {"a2a: {url: 'redis://" + nobody + "/0'}\n", "A2A_PASSWORD=" + plain},
		"for the tools":      {"engine: {env: {WRAPPER_TOKEN: '" + plain + "'}}\n", "X=y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, fakellama.Behaviour{})
			p.write("password", plain+"\n")
			p.env = []string{test.env}
			p.configure(test.config + "schedule: [{name: never, cron: \"@yearly\", targets: [Q2_K]}]\n")
			s := p.serve("--log.level=debug", "--web.enable-lifecycle")
			s.mustLog("msg=ready")
			if strings.Contains(test.config, "a2a") {
				s.mustLog("events cannot be delivered")
			}
			p.configure(strings.Replace(test.config, "0'", "zero'", 1) + "bad: key\n")
			_, reloaded := s.do(http.MethodPost, "/-/reload")
			shown := map[string]string{"the answer to a reload": reloaded}
			for _, path := range []string{"/", "/config", "/metrics", "/api/v1/events", "/api/v1/export", "/debug/pprof/cmdline"} {
				_, shown[path] = s.get(path)
			}
			assert.Contains(t, shown["/config"], "never")
			assert.Zero(t, s.stop())
			check := p.start("--config.check", "--model-dir", p.models)
			assert.Equal(t, exitError, check.status)
			shown["--config.check"] = check.stdout + check.stderr
			shown["the log"] = s.log()
			for where, text := range shown {
				assert.NotContains(t, text, "hunter2", where)
			}
		})
	}
}
