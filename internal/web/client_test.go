package web_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/quant-exporter/quant-exporter/internal/web"
)

// clientOf asks the handler of a test.
func clientOf(t *testing.T, handler http.Handler) *web.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client, err := web.NewClient(server.URL+"/", "")
	require.NoError(t, err)
	return client
}

func TestClientReadsEveryEventOnce(t *testing.T) {
	o := options(t)
	o.Store = &fakeStore{events: manyEvents(2500)}
	client := clientOf(t, handlerOf(o))
	all, err := client.Events(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, manyEvents(2500), all)
	pending, err := client.Events(t.Context(), "pending")
	require.NoError(t, err)
	assert.Len(t, pending, 250)
	none, err := client.Events(t.Context(), "held")
	require.NoError(t, err)
	assert.Empty(t, none)
	_, err = client.Events(t.Context(), "lost")
	assert.ErrorContains(t, err, `answered 400 Bad Request: delivery is "lost"`)
}

func TestClientDownloads(t *testing.T) {
	o := options(t)
	o.Store = &fakeStore{export: writes("a line\n"), backup: writes("a state")}
	client := clientOf(t, handlerOf(o))
	var exported, copied bytes.Buffer
	require.NoError(t, client.Export(t.Context(), &exported))
	assert.Equal(t, "a line\n", exported.String())
	require.NoError(t, client.Backup(t.Context(), &copied))
	assert.Equal(t, "a state", copied.String())

	o.Flags.AdminAPI = false
	client = clientOf(t, handlerOf(o))
	err := client.Backup(t.Context(), &copied)
	require.ErrorAs(t, err, new(*web.RefusedError))
	require.ErrorContains(t, err, client.String())
	assert.ErrorContains(t, err, "403 Forbidden: this is switched off: start quant-exporter with --web.enable-admin-api")
}

// What is cut off on its way is an error, and not a smaller state.
func TestClientSeesAPartForWhatItIs(t *testing.T) {
	client := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("half"))
	}))
	var got bytes.Buffer
	require.ErrorContains(t, client.Export(t.Context(), &got), "reading the answer of the exporter at "+client.String())
	_, err := client.Events(t.Context(), "")
	require.Error(t, err)
}

func TestClientOfSomebodyElse(t *testing.T) {
	client := clientOf(t, http.NotFoundHandler())
	_, err := client.Events(t.Context(), "")
	require.ErrorContains(t, err, "answered 404 Not Found: 404 page not found")

	for _, address := range []string{"", "localhost:10180", "ftp://localhost", "http://"} {
		_, err := web.NewClient(address, "")
		assert.ErrorContains(t, err, "write it like http://localhost:10180", address)
	}
	_, err = web.NewClient("http://localhost:1", filepath.Join(t.TempDir(), "missing.yml"))
	require.ErrorContains(t, err, "missing.yml")
	secret, err := web.NewClient("http://me:secret@127.0.0.1:1", "")
	require.NoError(t, err)
	_, err = secret.Events(t.Context(), "")
	require.ErrorContains(t, err, "127.0.0.1:1")
	assert.NotContains(t, err.Error(), "secret")
}

// A server with everything that --web.config.file can ask of a client is found and asked.
func TestClientWithCredentials(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	require.NoError(t, err)
	file := filepath.Join(dir, "web.yml")
	write(t, file, fmt.Sprintf("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\nbasic_auth_users: {me: %q}\n", hash))
	o := options(t)
	o.Mount = web.Mount{Prefix: "/quant"}
	o.Store = &fakeStore{events: manyEvents(3)}
	flags := flagsOf(file, "127.0.0.1:0")
	url, err := web.LocalURL(flags, start(t, web.ServeOptions{Handler: handlerOf(o), Flags: flags}), o.Mount)
	require.NoError(t, err)

	asking := filepath.Join(dir, "client.yml")
	for _, test := range []struct{ config, says string }{
		{"basic_auth: {username: me, password: right}", "certificate"},
		{"tls_config: {ca_file: tls.crt}", "401 Unauthorized"},
		{"tls_config: {ca_file: tls.crt}\nbasic_auth: {username: me, password: wrong}", "401 Unauthorized"},
		{"tls_config: {ca_file: tls.crt}\nbasic_auth: {username: me, password: right}", ""},
	} {
		write(t, asking, test.config)
		client, err := web.NewClient(url, asking)
		require.NoError(t, err)
		events, err := client.Events(t.Context(), "")
		if test.says == "" {
			require.NoError(t, err)
			assert.Len(t, events, 3)
			continue
		}
		require.ErrorContains(t, err, test.says)
		assert.Equal(t, test.says == "certificate", isCertificateError(err))
	}
}

func isCertificateError(err error) bool {
	_, is := errors.AsType[*tls.CertificateVerificationError](err)
	return is
}

func TestLocalURL(t *testing.T) {
	dir := t.TempDir()
	plain, secure := filepath.Join(dir, "plain.yml"), filepath.Join(dir, "secure.yml")
	write(t, plain, "basic_auth_users: {me: x}\n")
	write(t, secure, "tls_server_config: {cert_file: a.crt, key_file: a.key, min_version: TLS13}\n")
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 10180} }
	for _, test := range []struct {
		file, prefix string
		addresses    []net.Addr
		want         string
	}{
		{"", "", []net.Addr{tcp("::")}, "http://localhost:10180"},
		{"", "", []net.Addr{tcp("0.0.0.0")}, "http://localhost:10180"},
		{"", "", []net.Addr{tcp("192.0.2.1"), tcp("127.0.0.1")}, "http://192.0.2.1:10180"},
		{"", "/quant", []net.Addr{tcp("::1")}, "http://[::1]:10180/quant"},
		{plain, "", []net.Addr{tcp("127.0.0.1")}, "http://127.0.0.1:10180"},
		{secure, "", []net.Addr{&net.UnixAddr{Name: "socket"}, tcp("::")}, "https://localhost:10180"},
		{"", "", []net.Addr{&net.UnixAddr{Name: "socket"}}, ""},
	} {
		got, err := web.LocalURL(flagsOf(test.file), test.addresses, web.Mount{Prefix: test.prefix})
		require.NoError(t, err)
		assert.Equal(t, test.want, got)
	}
}
