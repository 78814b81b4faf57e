// Command bench-exporter measures what the exporter costs a host that it does nothing on:
// how long it takes to be ready, what it holds in memory, what it computes between two
// cycles, and what a scrape takes, beside node_exporter and blackbox_exporter in the same
// run. It prints Markdown for BENCHMARKS.md. It needs Linux, whose /proc it reads.
//
//	go run ./scripts/bench-exporter [-tools DIR]
//
// Nothing else should run on the host meanwhile.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

func main() {
	tools := flag.String("tools", os.Getenv("LLAMA_CPP_DIR"), "folder of llama-bench and llama-quantize; default: PATH")
	starts := flag.Int("starts", 21, "times to start each exporter")
	rest := flag.Duration("rest", time.Minute, "how long they are left alone before memory and CPU time are read")
	flag.Parse()
	if err := run(*tools, *starts, *rest); err != nil {
		fmt.Fprintln(os.Stderr, "bench-exporter:", err)
		os.Exit(1)
	}
}

// subject is an exporter to measure.
type subject struct {
	name  string
	dir   string   // to run in
	args  []string // the program first; what is said of the address comes after them
	ready string   // path that answers 200 once it is ready

	process *exec.Cmd
	url     string
	figures
}

// figures are what is measured of a subject.
type figures struct {
	starts     []time.Duration // from the start of the process to ready
	rss, pss   int64           // bytes, after the rest
	cpu        float64         // share of one core during the rest
	scrapes    []time.Duration
	size       int   // bytes of a scrape
	rssScraped int64 // bytes, after the scrapes
}

const scrapes = 21

func run(tools string, starts int, rest time.Duration) error {
	dir, err := os.MkdirTemp("", "bench-exporter-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	subjects, err := prepare(dir, tools)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range subjects {
			_ = s.stop()
		}
	}()
	before := loadAverage()
	for _, s := range subjects {
		for range starts {
			if err := errors.Join(s.stop(), s.start()); err != nil {
				return err
			}
		}
	}
	if err := restAll(subjects, rest); err != nil {
		return err
	}
	for _, s := range subjects {
		if err := s.scrape(); err != nil {
			return err
		}
	}
	fmt.Printf("Load average of the host before and after: %s, %s. Starts: %d each. Rest: %v.\n\n", before, loadAverage(), starts, rest)
	fmt.Println("| exporter | start to ready: median (slowest) | RSS at rest | PSS at rest | CPU at rest, of one core | scrape: median | size | RSS after the scrapes |")
	fmt.Println("|---|--:|--:|--:|--:|--:|--:|--:|")
	for _, s := range subjects {
		fmt.Printf("| %s | %s (%s) | %s | %s | %.2f %% | %s | %.0f kB | %s |\n", s.name,
			ms(median(s.starts)), ms(slices.Max(s.starts)), mb(s.rss), mb(s.pss), s.cpu*100, ms(median(s.scrapes)), float64(s.size)/1e3, mb(s.rssScraped))
	}
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3) }
func mb(bytes int64) string     { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// prepare builds the exporter as `make build` does, but for the version's text, and finds
// the others.
func prepare(dir, tools string) ([]*subject, error) {
	binary := filepath.Join(dir, "quant-exporter")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building: %w\n%s", err, out)
	}
	large := gguftest.Shape{Weights: gguf.F16, FileType: 1, Vocabulary: 152_064, Embedding: 4096, FeedForward: 14_336, Blocks: 32, Heads: 32, KVHeads: 8}
	var subjects []*subject
	for _, of := range []struct {
		name  string
		n     int
		shape gguftest.Shape
	}{
		{"quant-exporter, 20 models, 20 entries", 20, large},
		{"quant-exporter, 1,000 small models, 1,000 entries", 1000, gguftest.Tiny()},
	} {
		place := filepath.Join(dir, strconv.Itoa(of.n))
		if err := writeModels(filepath.Join(place, "models"), of.n, gguftest.Model(of.shape)); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(place, "quant-exporter.yml"), []byte(schedule(of.n)), 0o600); err != nil {
			return nil, err
		}
		args := []string{binary, "--model-dir=models", "--host.lock=lock"}
		if tools != "" {
			absolute, err := filepath.Abs(tools)
			if err != nil {
				return nil, err
			}
			args = append(args, "--llamacpp.dir="+absolute)
		}
		subjects = append(subjects, &subject{name: of.name, dir: place, args: args, ready: "/-/ready"})
	}
	others := exec.Command("scripts/get-debian-tools", ".tools/debian", "prometheus-node-exporter", "prometheus-blackbox-exporter")
	others.Stderr = os.Stderr
	out, err := others.Output()
	if err != nil {
		return nil, fmt.Errorf("getting the other exporters: %w", err)
	}
	bin := strings.TrimSpace(string(out))
	blackbox := filepath.Join(dir, "blackbox.yml")
	if err := os.WriteFile(blackbox, []byte("modules: {http_2xx: {prober: http}}\n"), 0o600); err != nil {
		return nil, err
	}
	return append(subjects,
		&subject{name: "node_exporter", dir: dir, args: []string{filepath.Join(bin, "prometheus-node-exporter")}, ready: "/"},
		&subject{name: "blackbox_exporter, one module", dir: dir, args: []string{filepath.Join(bin, "prometheus-blackbox-exporter"), "--config.file=" + blackbox}, ready: "/-/healthy"},
	), nil
}

// writeModels writes real headers, and data that are holes.
func writeModels(dir string, n int, model gguftest.File) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	header, size := model.Header()
	for i := range n {
		path := filepath.Join(dir, modelName(i)+".gguf")
		if err := os.WriteFile(path, header, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(path, size); err != nil {
			return err
		}
	}
	return nil
}

func modelName(i int) string { return fmt.Sprintf("model-%04d", i) }

// schedule has an entry for each model, none of them due within the next months.
func schedule(n int) string {
	month := time.Now().AddDate(0, 6, 0).Month()
	var text strings.Builder
	text.WriteString("schedule:\n")
	for i := range n {
		fmt.Fprintf(&text, "  - {name: entry %d, cron: \"%d %d %d %d *\", models: [%s], targets: [Q2_K, Q4_K_M]}\n", i, i%60, i/60%24, 1+i%28, month, modelName(i))
	}
	return text.String()
}

// start starts the exporter and waits until it is ready.
func (s *subject) start() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	listener.Close() // nobody else takes it at once
	s.url = "http://" + address
	s.process = exec.Command(s.args[0], append(s.args[1:], "--web.listen-address="+address)...)
	s.process.Dir = s.dir
	begin := time.Now()
	if err := s.process.Start(); err != nil {
		return err
	}
	for time.Since(begin) < time.Minute {
		if _, err := s.get(s.ready); err == nil {
			s.starts = append(s.starts, time.Since(begin))
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("%s is not ready within a minute", s.name)
}

func (s *subject) stop() error {
	if s.process == nil {
		return nil
	}
	err := s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Wait() // some end by the signal, some with status 0
	s.process = nil
	return err
}

// get reads an answer of 200.
func (s *subject) get(path string) ([]byte, error) {
	response, err := http.Get(s.url + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s: %s", s.url, path, response.Status)
	}
	return body, err
}

// restAll leaves all of them alone and reads what they held and did meanwhile.
func restAll(subjects []*subject, rest time.Duration) error {
	time.Sleep(5 * time.Second) // what follows a start is over
	used := make([]time.Duration, len(subjects))
	for i, s := range subjects {
		var err error
		if used[i], err = cpuTime(s.process.Process.Pid); err != nil {
			return err
		}
	}
	time.Sleep(rest)
	for i, s := range subjects {
		after, err := cpuTime(s.process.Process.Pid)
		if err != nil {
			return err
		}
		s.cpu = float64(after-used[i]) / float64(rest)
		if s.rss, s.pss, err = memory(s.process.Process.Pid); err != nil {
			return err
		}
	}
	return nil
}

func (s *subject) scrape() error {
	for range scrapes {
		begin := time.Now()
		body, err := s.get("/metrics")
		if err != nil {
			return err
		}
		s.scrapes = append(s.scrapes, time.Since(begin))
		s.size = len(body)
	}
	var err error
	s.rssScraped, _, err = memory(s.process.Process.Pid)
	return err
}
