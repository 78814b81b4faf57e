package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

// Prometheus is a running Prometheus server.
type Prometheus struct {
	HTTPServer

	t testing.TB
}

// StartPrometheus starts a Prometheus with this prometheus.yml and waits until it is
// ready. The files that the configuration names (rules, passwords) lie in its folder:
// names are relative, and may hold slashes. The configuration says how often it scrapes:
// the default of one minute is long for a test. POST /-/reload works.
func StartPrometheus(t testing.TB, config string, files map[string]string) *Prometheus {
	t.Helper()
	s := newServer(t, "prometheus")
	s.write(t, "prometheus.yml", config)
	s.writeAll(t, files)
	s.args = func(port int) []string {
		return []string{
			"--config.file=prometheus.yml", "--storage.tsdb.path=data",
			"--web.listen-address=" + loopback(port), "--web.enable-lifecycle",
		}
	}
	return &Prometheus{HTTPServer: *s.serve(t, "/-/ready"), t: t}
}

// Query is what an instant query yields now; its result must be a vector.
func (p *Prometheus) Query(promql string) model.Vector {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	vector, err := p.query(ctx, promql)
	if err != nil {
		p.t.Fatalf("asking Prometheus for %s: %v", promql, err)
	}
	return vector
}

// WaitFor repeats an instant query until its result is as wanted, and returns that. The
// test ends at once, with the latest result, when it is not within five minutes.
func (p *Prometheus) WaitFor(promql string, wanted func(model.Vector) bool) model.Vector {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(pollInterval) {
		vector := p.Query(promql)
		if wanted(vector) {
			return vector
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s is not as wanted after %v; the latest result:\n%v", promql, patience, vector)
		}
	}
}

// query speaks the HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/).
func (p *Prometheus) query(ctx context.Context, promql string) (model.Vector, error) {
	address := p.URL + "/api/v1/query?" + url.Values{"query": {promql}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType model.ValueType
			Result     json.RawMessage
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading the answer (%s): %w", response.Status, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", response.Status, answer.Error)
	}
	if answer.Data.ResultType != model.ValVector {
		return nil, fmt.Errorf("the result is a %s, not a vector", answer.Data.ResultType)
	}
	var vector model.Vector
	if err := json.Unmarshal(answer.Data.Result, &vector); err != nil {
		return nil, fmt.Errorf("reading the result: %w", err)
	}
	return vector, nil
}

// Promtool runs promtool with these arguments and returns what it prints on both streams. If
// it found fault, the error is an *exec.ExitError. Names of files are relative to the tested
// package's directory.
func Promtool(t testing.TB, args ...string) (string, error) {
	t.Helper()
	return promtool(t, nil, args...)
}

// PromtoolCheckMetrics gives an exposition to promtool check metrics; for the result see
// [Promtool].
func PromtoolCheckMetrics(t testing.TB, exposition []byte) (string, error) {
	t.Helper()
	return promtool(t, exposition, "check", "metrics")
}

func promtool(t testing.TB, stdin []byte, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, Tool(t, "promtool"), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
