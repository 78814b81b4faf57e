package web_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/quant-exporter/quant-exporter/internal/web"
)

// systemdChild makes the test binary a server on systemd's sockets.
const systemdChild = "QUANT_EXPORTER_TEST_SYSTEMD_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(systemdChild) != "" {
		os.Exit(serveForSystemd())
	}
	os.Exit(m.Run())
}

func flagsOf(configFile string, addresses ...string) *toolkit.FlagConfig {
	return &toolkit.FlagConfig{WebListenAddresses: &addresses, WebSystemdSocket: new(false), WebConfigFile: &configFile}
}

// hello answers every request with one word.
var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })

// start serves until the test ends, and gives the addresses.
func start(t *testing.T, o web.ServeOptions) []net.Addr {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan []net.Addr, 1), make(chan error, 1)
	o.Logger = slog.New(slog.DiscardHandler)
	o.Ready = func(addresses []net.Addr) { ready <- addresses }
	go func() { done <- web.Serve(ctx, o) }()
	select {
	case addresses := <-ready:
		t.Cleanup(func() {
			cancel()
			assert.NoError(t, <-done)
		})
		return addresses
	case err := <-done:
		cancel()
		require.NoError(t, err)
		panic("Serve ended without an error before its context did")
	}
}

func get(client *http.Client, url string, edits ...func(*http.Request)) (status int, body string, err error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	for _, edit := range edits {
		edit(request)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// client that leaves no connections open.
func client(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
}

func TestServeOnSeveralAddresses(t *testing.T) {
	addresses := start(t, web.ServeOptions{Handler: hello, Flags: flagsOf("", "127.0.0.1:0", "127.0.0.1:0")})
	require.Len(t, addresses, 2)
	assert.NotEqual(t, addresses[0].String(), addresses[1].String())
	for _, address := range addresses {
		status, body, err := get(client(nil), "http://"+address.String())
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, "hello", body)
	}
}

// certificate writes a self-signed one for 127.0.0.1, and gives those that trust it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write(t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

// TLS and basic authentication hold on every address.
func TestServeWithTLSAndBasicAuth(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	require.NoError(t, err)
	file := filepath.Join(dir, "web.yml")
	write(t, file, fmt.Sprintf("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\nbasic_auth_users: {prometheus: %q}\n", hash))

	addresses := start(t, web.ServeOptions{Handler: hello, Flags: flagsOf(file, "127.0.0.1:0", "127.0.0.1:0")})
	trusting := client(&tls.Config{RootCAs: pool})
	as := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	for _, address := range addresses {
		url := "https://" + address.String()
		status, body, err := get(trusting, url, as("prometheus", "right"))
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, "hello", body)

		for _, edit := range []func(*http.Request){func(*http.Request) {}, as("prometheus", "wrong")} {
			status, body, err = get(trusting, url, edit)
			require.NoError(t, err)
			assert.Equal(t, http.StatusUnauthorized, status)
			assert.NotContains(t, body, "hello")
		}

		_, _, err = get(client(nil), url)
		assert.ErrorAs(t, err, new(*tls.CertificateVerificationError), "nobody vouches for the certificate")
		status, _, err = get(client(nil), "http://"+address.String())
		require.NoError(t, err)
		assert.Equal(t, http.StatusBadRequest, status, "plain HTTP is refused")
	}
}

func TestServeCannotBegin(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.yml")
	unknown := filepath.Join(dir, "unknown.yml")
	write(t, unknown, "tls: {}\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	systemd := flagsOf("")
	systemd.WebSystemdSocket = new(true)

	for name, test := range map[string]struct {
		flags *toolkit.FlagConfig
		want  []string
	}{
		"no web.config.file":  {flagsOf(missing, "127.0.0.1:0"), []string{"--web.config.file", missing}},
		"bad web.config.file": {flagsOf(unknown, "127.0.0.1:0"), []string{"--web.config.file", unknown, "tls"}},
		"no address":          {flagsOf(""), []string{"--web.listen-address"}},
		"taken":               {flagsOf("", "127.0.0.1:0", taken.Addr().String()), []string{"--web.listen-address", taken.Addr().String(), "choose another address"}},
		"a port alone":        {flagsOf("", "10180"), []string{"did you mean :10180?"}},
		"no port":             {flagsOf("", "127.0.0.1"), []string{"--web.listen-address", "127.0.0.1"}},
		"vsock":               {flagsOf("", "vsock://:port"), []string{"vsock://:10180"}},
		"systemd":             {systemd, []string{"--web.systemd-socket", "no socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := web.Serve(t.Context(), web.ServeOptions{
				Handler: hello, Flags: test.flags, Logger: slog.New(slog.DiscardHandler),
				Ready: func([]net.Addr) { assert.Fail(t, "it is not ready") },
			})
			require.Error(t, err)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

// serveForSystemd is the program that systemd starts: its socket is file descriptor 3. It
// ends when its standard input does.
func serveForSystemd() int {
	_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // what systemd sets between fork and exec
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	flags := flagsOf("")
	flags.WebSystemdSocket = new(true)
	if err := web.Serve(ctx, web.ServeOptions{Handler: hello, Flags: flags, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// inSystemdChild passes files to a child as systemd does, and gives what it printed when
// during is over.
func inSystemdChild(t *testing.T, during func(), files ...*os.File) (stderr string, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), systemdChild+"=1", "LISTEN_FDS="+strconv.Itoa(len(files)))
	command.ExtraFiles = files
	var output bytes.Buffer
	command.Stderr = &output
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	during()
	require.NoError(t, stdin.Close())
	err = command.Wait()
	return output.String(), err
}

func TestServeOnSystemdsSockets(t *testing.T) {
	var files []*os.File
	var addresses []string
	for range 2 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		file, err := listener.(*net.TCPListener).File()
		require.NoError(t, err)
		defer file.Close()
		files, addresses = append(files, file), append(addresses, listener.Addr().String())
		require.NoError(t, listener.Close()) // the file keeps the socket open
	}
	stderr, err := inSystemdChild(t, func() {
		for _, address := range addresses { // the socket listens before the child does
			status, body, err := get(client(nil), "http://"+address)
			assert.NoError(t, err)
			assert.Equal(t, http.StatusOK, status)
			assert.Equal(t, "hello", body)
		}
	}, files...)
	assert.NoError(t, err, stderr)
}

func TestServeOnASocketThatIsNoStream(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer packets.Close()
	file, err := packets.(*net.UDPConn).File()
	require.NoError(t, err)
	defer file.Close()
	stderr, err := inSystemdChild(t, func() {}, file)
	assert.Error(t, err)
	assert.Contains(t, stderr, "ListenStream=")
}

// memory is a network of one address, for the fake clock of synctest.
type memory struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
	broken      chan error // what Accept fails with
}

func newMemory() *memory {
	return &memory{connections: make(chan net.Conn), closed: make(chan struct{}), broken: make(chan error)}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case connection := <-m.connections:
		return connection, nil
	case err := <-m.broken:
		return nil, err
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (m *memory) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			select {
			case m.connections <- theirs:
				return ours, nil
			case <-m.closed:
				return nil, errors.New("connection refused")
			}
		},
	}}
}

// serving is a server in a synctest bubble, with a request under way.
type serving struct {
	network *memory
	stop    context.CancelFunc
	done    chan error // what Serve returned
	answer  chan error // of the request: nil for a whole answer
}

// serveOne starts a server and a request, and returns once answer answers it.
func serveOne(t *testing.T, answer http.HandlerFunc) *serving {
	s := &serving{network: newMemory(), done: make(chan error, 1), answer: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	entered := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		answer(w, r)
	})
	go func() {
		s.done <- web.ServeOn(ctx, []net.Listener{s.network}, web.ServeOptions{
			Handler: handler, Flags: flagsOf(""), Logger: slog.New(slog.DiscardHandler),
		})
	}()
	go func() {
		_, body, err := get(s.network.client(), "http://memory")
		if err == nil && body != "whole" {
			err = fmt.Errorf("half an answer: %q", body)
		}
		s.answer <- err
	}()
	<-entered
	return s
}

// A request under way when the server is to stop ends as it would have, and no other one
// begins.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := serveOne(t, func(w http.ResponseWriter, _ *http.Request) {
			<-release
			_, _ = io.WriteString(w, "whole")
		})
		began := time.Now()
		s.stop()
		synctest.Wait()
		assert.Empty(t, s.done, "it waits")
		_, _, err := get(s.network.client(), "http://memory")
		assert.ErrorContains(t, err, "connection refused")

		close(release)
		assert.NoError(t, <-s.answer)
		assert.NoError(t, <-s.done)
		assert.Less(t, time.Since(began), 5*time.Second, "it does not wait for longer than it must")
	})
}

// A request that does not end is cut off in time, and notices.
func TestDrainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveOne(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		began := time.Now()
		s.stop()
		assert.NoError(t, <-s.done)
		assert.Equal(t, 5*time.Second, time.Since(began))
		assert.Error(t, <-s.answer)
	})
}

// When one listener fails the others stop, and the error says which it was.
func TestServeListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := newMemory(), newMemory()
		done := make(chan error, 1)
		go func() {
			done <- web.ServeOn(t.Context(), []net.Listener{good, bad}, web.ServeOptions{
				Handler: hello, Flags: flagsOf(""), Logger: slog.New(slog.DiscardHandler),
			})
		}()
		_, body, err := get(good.client(), "http://memory")
		require.NoError(t, err)
		assert.Equal(t, "hello", body)

		bad.broken <- errors.New("the network is gone")
		err = <-done
		assert.ErrorContains(t, err, "memory: the network is gone")
		<-good.closed
	})
}

// A client that sends its request slowly, or does not take the answer, is let go.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- web.ServeOn(ctx, []net.Listener{network}, web.ServeOptions{
				Handler: hello, Flags: flagsOf(""), Logger: slog.New(slog.DiscardHandler),
			})
		}()
		for sent, limit := range map[string]time.Duration{
			"GET / HT":                          10 * time.Second,
			"GET / HTTP/1.1\r\nHost: x\r\n\r\n": 2 * time.Minute,
		} {
			began := time.Now()
			ours, theirs := net.Pipe()
			network.connections <- theirs
			_, err := io.WriteString(ours, sent)
			require.NoError(t, err)
			time.Sleep(limit + time.Second) // of the fake clock: nothing is read meanwhile
			answer, err := io.ReadAll(ours)
			assert.NoError(t, err, "the connection is closed")
			assert.NotContains(t, string(answer), "hello")
			assert.Equal(t, limit+time.Second, time.Since(began))
		}
		cancel()
		assert.NoError(t, <-done)
	})
}

// A client that announces a body and does not send it keeps no connection.
func TestClientThatOwesABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- web.ServeOn(ctx, []net.Listener{network}, web.ServeOptions{
				Handler: hello, Flags: flagsOf(""), Logger: slog.New(slog.DiscardHandler),
			})
		}()
		ours, theirs := net.Pipe()
		network.connections <- theirs
		began := time.Now()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			_, _ = io.WriteString(ours, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
			_, _ = io.Copy(io.Discard, ours)
		}()
		select {
		case <-closed:
			assert.Less(t, time.Since(began), time.Minute)
		case <-time.After(time.Hour):
			assert.Fail(t, "the connection stays")
			_ = ours.Close()
		}
		cancel()
		assert.NoError(t, <-done)
	})
}

// A long answer is cut off by no limit of reading, of which the request has none left.
func TestLongAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveOne(t, func(w http.ResponseWriter, r *http.Request) {
			for _, part := range []string{"w", "ho", "le"} {
				select {
				case <-time.After(10 * time.Minute):
				case <-r.Context().Done():
					return
				}
				control := http.NewResponseController(w)
				_ = control.SetWriteDeadline(time.Now().Add(time.Minute))
				_, _ = io.WriteString(w, part)
				_ = control.Flush()
			}
		})
		assert.NoError(t, <-s.answer)
		s.stop()
		assert.NoError(t, <-s.done)
	})
}

// Whoever opens connections and says nothing keeps nobody else out.
func TestIdleConnectionsAreBounded(t *testing.T) {
	address := start(t, web.ServeOptions{Handler: hello, Flags: flagsOf("", "127.0.0.1:0")})[0].String()
	var all []net.Conn
	for range 400 {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer conn.Close()
		all = append(all, conn)
	}
	_, body, err := get(client(nil), "http://"+address)
	require.NoError(t, err)
	assert.Equal(t, "hello", body)
	for i, conn := range all[:400-256] {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "connection %d is still open", i)
	}
}
