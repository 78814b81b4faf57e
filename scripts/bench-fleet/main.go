// Command bench-fleet measures what a fleet costs: the memory of a worker, how long a cycle that
// is due waits for one that is free, and how much longer a cycle takes by a worker than without
// one. The coordinator, Redis and the worker run on this host, and take the same model with the
// same tools, in turn. It prints Markdown for BENCHMARKS.md. It needs Linux, whose /proc it reads.
//
//	go run ./scripts/bench-fleet [-tools DIR] [-cycles 5]
//
// Nothing else should run on the host meanwhile.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	tools := flag.String("tools", os.Getenv("LLAMA_CPP_DIR"), "folder of llama.cpp's tools; default: PATH")
	models := flag.String("models", "examples/models", "folder of the model")
	model := flag.String("model", "*4m-f16", "the model, by its name or a pattern of it")
	target := flag.String("target", "Q8_0", "the format that is decided")
	cycles := flag.Int("cycles", 5, "cycles here and by the worker, after one of each that does not count")
	flag.Parse()
	if err := run(*tools, *models, *model, *target, *cycles); err != nil {
		fmt.Fprintln(os.Stderr, "bench-fleet:", err)
		os.Exit(1)
	}
}

// The entries of the schedule.
const (
	here     = "here"
	byWorker = "worker"
)

// bench is a fleet on this host.
type bench struct {
	dir   string
	began []*exec.Cmd // what runs
	url   string      // of the coordinator

	worker *exec.Cmd
	log    output // of the worker
}

func run(tools, models, model, target string, cycles int) (err error) {
	dir, err := os.MkdirTemp("", "bench-fleet-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.start(tools, models, model, target); err != nil {
		return err
	}
	time.Sleep(10 * time.Second) // in which the worker looks at its tools, and comes to rest
	idle, err := b.rss()
	if err != nil {
		return err
	}
	took := map[string][]time.Duration{}
	var waited []time.Duration
	for i := range cycles + 1 {
		for _, entry := range []string{here, byWorker} {
			cycle, err := b.cycle(entry)
			if err != nil {
				return err
			}
			if i == 0 { // it makes the copy, and confirms the first decision
				continue
			}
			took[entry] = append(took[entry], cycle.Ended.Sub(cycle.Started))
			if entry == byWorker {
				begun, err := b.lastBegin()
				if err != nil {
					return err
				}
				waited = append(waited, begun.Sub(cycle.Started))
			}
		}
	}
	after, err := b.rss()
	if err != nil {
		return err
	}
	local, remote := median(took[here]), median(took[byWorker])
	fmt.Printf("%s to %s, %d cycles of each in turn, of 4 rounds.\n\n| | |\n|---|--:|\n", model, target, cycles)
	fmt.Printf("| RSS of a worker: idle before its first cycle, and after the last | %.1f MB, %.1f MB |\n", mb(idle), mb(after))
	fmt.Printf("| from given to begun: median (slowest) | %.2f s (%.2f s) |\n", median(waited).Seconds(), slices.Max(waited).Seconds())
	fmt.Printf("| a cycle on this host: median (range) | %s |\n", within(took[here]))
	fmt.Printf("| a cycle by the worker: median (range) | %s |\n", within(took[byWorker]))
	fmt.Printf("| by the worker, of the time here | %.3f |\n", remote.Seconds()/local.Seconds())
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func within(all []time.Duration) string {
	return fmt.Sprintf("%.1f s (%.1f to %.1f s)", median(all).Seconds(), slices.Min(all).Seconds(), slices.Max(all).Seconds())
}

// start builds the program, and starts Redis, a worker and a coordinator.
func (b *bench) start(tools, models, model, target string) error {
	binary := filepath.Join(b.dir, "quant-exporter")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as in a release
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building: %w\n%s", err, out)
	}
	get := exec.Command("scripts/get-debian-tools", ".tools/debian", "redis-server")
	get.Stderr = os.Stderr
	bin, err := get.Output()
	if err != nil {
		return fmt.Errorf("getting redis-server: %w", err)
	}
	if models, err = filepath.Abs(models); err != nil {
		return err
	}
	redis, web, err := twoPorts()
	if err != nil {
		return err
	}
	common := fmt.Sprintf("models: {dir: %q}\nfleet: {url: \"redis://127.0.0.1:%d\"}\nbenchmark: {rounds: {min: 4, max: 4}}\n", models, redis)
	entry := "  - {name: %s, cron: \"@yearly\", models: [%q], targets: [%s]%s}\n"
	schedule := "schedule:\n" + fmt.Sprintf(entry, here, model, target, "") + fmt.Sprintf(entry, byWorker, model, target, ", on: [bench]")
	for name, text := range map[string]string{"worker.yml": common, "coordinator.yml": common + schedule} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if _, err := b.launch(nil, filepath.Join(strings.TrimSpace(string(bin)), "redis-server"), "--port", strconv.Itoa(redis), "--bind", "127.0.0.1", "--save", "", "--dir", b.dir); err != nil {
		return err
	}
	args := func(name string) []string {
		all := []string{
			"--config.file=" + filepath.Join(b.dir, name+".yml"), "--storage.path=" + filepath.Join(b.dir, name),
			"--work.dir=" + filepath.Join(b.dir, name+"-work"), "--host.lock=" + filepath.Join(b.dir, "lock"),
		}
		if tools != "" {
			all = append(all, "--llamacpp.dir="+tools)
		}
		return all
	}
	if b.worker, err = b.launch(&b.log, binary, append([]string{"worker", "--class=bench"}, args("worker")...)...); err != nil {
		return err
	}
	b.url = fmt.Sprintf("http://127.0.0.1:%d", web)
	if _, err := b.launch(nil, binary, append(args("coordinator"), "--web.enable-admin-api", fmt.Sprintf("--web.listen-address=127.0.0.1:%d", web))...); err != nil {
		return err
	}
	return b.until("the coordinator is ready and has a worker", time.Minute, func() bool {
		var answer struct {
			Data struct {
				Fleet struct{ Workers []struct{ Up bool } }
			}
		}
		return b.get("/-/ready", nil) == nil && b.get("/api/v1/schedule", &answer) == nil && len(answer.Data.Fleet.Workers) == 1
	})
}

// launch starts a program, whose standard error goes to log.
func (b *bench) launch(log *output, program string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(program, args...)
	if log != nil {
		cmd.Stderr = log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	b.began = append(b.began, cmd)
	return cmd, nil
}

// stop ends what was started, the last one first.
func (b *bench) stop() error {
	var errs []error
	for _, cmd := range slices.Backward(b.began) {
		errs = append(errs, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	}
	return errors.Join(errs...)
}

// cycle is one as the API tells of it.
type cycle struct {
	Cycle   uint64
	Started time.Time
	Ended   *time.Time
}

// cycle runs a cycle of an entry.
func (b *bench) cycle(entry string) (cycle, error) {
	latest := func() (cycle, error) {
		var answer struct{ Data struct{ Cycles []cycle } }
		if err := b.get("/api/v1/cycles?limit=1&entry="+entry, &answer); err != nil || len(answer.Data.Cycles) == 0 {
			return cycle{}, err
		}
		return answer.Data.Cycles[0], nil
	}
	before, err := latest()
	if err != nil {
		return cycle{}, err
	}
	response, err := http.Post(b.url+"/api/v1/run?entry="+entry, "", nil)
	if err != nil {
		return cycle{}, err
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusAccepted {
		return cycle{}, errors.Join(fmt.Errorf("running %s: %s", entry, response.Status), err)
	}
	var now cycle
	err = b.until("a cycle of the entry "+entry+" is over", time.Hour, func() bool {
		now, err = latest()
		return err == nil && now.Cycle > before.Cycle && now.Ended != nil
	})
	time.Sleep(2 * time.Second) // in which everybody comes to rest
	return now, err
}

var beginning = regexp.MustCompile(`(?m)^time=(\S+) .*msg="a cycle begins"`)

// lastBegin is when the worker last began a cycle.
func (b *bench) lastBegin() (time.Time, error) {
	all := beginning.FindAllStringSubmatch(b.log.String(), -1)
	if len(all) == 0 {
		return time.Time{}, fmt.Errorf("the worker has begun no cycle:\n%s", b.log.String())
	}
	return time.Parse(time.RFC3339Nano, all[len(all)-1][1])
}

// rss is the resident memory of the worker, in bytes (proc_pid_status(5)).
func (b *bench) rss() (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", b.worker.Process.Pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var kilobytes int64
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return kilobytes * 1024, nil
}

// until looks once in a while, which costs little, as what is waited for notes its own time.
func (b *bench) until(what string, patience time.Duration, is func() bool) error {
	for deadline := time.Now().Add(patience); !is(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%v have passed, and it is not yet so that %s; the worker says:\n%s", patience, what, b.log.String())
		}
	}
	return nil
}

// get reads an answer of the coordinator; into nil reads its status only.
func (b *bench) get(path string, into any) error {
	response, err := http.Get(b.url + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// twoPorts are free at this moment.
func twoPorts() (first, second int, err error) {
	var ports []int
	for range 2 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports[0], ports[1], nil
}

// output is what a program prints, while it does.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String is what was printed so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
