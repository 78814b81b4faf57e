package servers

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// HTTPServer is a running server that is talked to by HTTP.
type HTTPServer struct {
	URL string // http://host:port, without a slash at the end
	PID int    // of its process
	Dir string // its working folder
}

// StartAlertmanager starts an Alertmanager without a cluster, with this alertmanager.yml,
// and waits until it is ready. The files that the configuration names lie in its folder:
// names are relative, and may hold slashes.
func StartAlertmanager(t testing.TB, config string, files map[string]string) *HTTPServer {
	t.Helper()
	s := newServer(t, "prometheus-alertmanager")
	s.write(t, "alertmanager.yml", config)
	s.writeAll(t, files)
	s.args = func(port int) []string {
		return []string{
			"--config.file=alertmanager.yml", "--storage.path=data",
			"--web.listen-address=" + loopback(port), "--cluster.listen-address=",
		}
	}
	return s.serve(t, "/-/ready")
}

// StartNodeExporter starts a node_exporter with further arguments, and waits until it
// answers.
func StartNodeExporter(t testing.TB, args ...string) *HTTPServer {
	t.Helper()
	s := newServer(t, "prometheus-node-exporter")
	s.args = func(port int) []string {
		return append([]string{"--web.listen-address=" + loopback(port)}, args...)
	}
	return s.serve(t, "/")
}

// StartBlackboxExporter starts a blackbox_exporter with this blackbox.yml, and waits
// until it answers.
func StartBlackboxExporter(t testing.TB, config string) *HTTPServer {
	t.Helper()
	s := newServer(t, "prometheus-blackbox-exporter")
	s.write(t, "blackbox.yml", config)
	s.args = func(port int) []string {
		return []string{"--config.file=blackbox.yml", "--web.listen-address=" + loopback(port)}
	}
	return s.serve(t, "/-/healthy")
}

// serve launches a server that is ready when GET path answers 200.
func (s *server) serve(t testing.TB, path string) *HTTPServer {
	t.Helper()
	s.ready = func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(s.port)+path, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", request.URL, response.Status)
		}
		return nil
	}
	s.launch(t)
	return &HTTPServer{URL: "http://" + loopback(s.port), PID: s.cmd.Process.Pid, Dir: s.dir}
}

// write puts a file into the server's folder.
func (s *server) write(t testing.TB, name, content string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o600)
	}
	if err != nil {
		t.Fatalf("writing a file for %s: %v", s.path, err)
	}
}

func (s *server) writeAll(t testing.TB, files map[string]string) {
	t.Helper()
	for name, content := range files {
		s.write(t, name, content)
	}
}
