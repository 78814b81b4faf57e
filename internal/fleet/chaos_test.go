package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/cycle"
	"github.com/quant-exporter/quant-exporter/internal/dispatch"
	"github.com/quant-exporter/quant-exporter/internal/fleet"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
	"github.com/quant-exporter/quant-exporter/schedule"
)

var (
	chaosKills = flag.Int("chaos-kills", 20, "processes that TestChaos kills, beside what becomes of Redis")
	chaosSeed  = flag.Uint64("chaos-seed", 0, "seed of the faults of TestChaos; 0 is another one each time")
)

// childEnv makes the test binary a coordinator or a worker; it holds a child.
const childEnv = "QUANT_EXPORTER_TEST_FLEET"

// child is what a process of a fleet is told.
type child struct {
	Class string // of a worker; "" for the coordinator
	Host  string
	URL   string
	Dir   string // of the coordinator's state
	Fire  bool   // the coordinator fires its entry again and again
	Done  string // a file that it writes when nothing goes on any more
	Slow  bool   // cycles of the worker take until they are canceled
}

func TestMain(m *testing.M) {
	text, is := os.LookupEnv(childEnv)
	if !is {
		os.Exit(m.Run())
	}
	var c child
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// hasty are times of a fleet in which hosts die often.
var hasty = fleet.Times{Poll: 50 * time.Millisecond, Silent: 2 * time.Second, Cancel: 5 * time.Second, Task: time.Second, Beat: 200 * time.Millisecond, Ask: time.Second, Lead: 3 * time.Second}

func (c *child) config() config.Fleet {
	cfg := config.DefaultFleet()
	cfg.URL = c.URL
	return cfg
}

func (c *child) run(ctx context.Context) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("child", c.Host)
	if c.Class == "" {
		return c.coordinate(ctx, logger)
	}
	w, err := fleet.NewWorker(fleet.WorkerOptions{Config: c.config(), Class: c.Class, Host: c.Host, Times: hasty, Do: c.do, Logger: logger})
	if err != nil {
		return err
	}
	return w.Run(ctx, false)
}

// do decides each target after a while.
func (c *child) do(ctx context.Context, t fleet.Task, out *fleet.Report) {
	for i, target := range t.Targets {
		fmt.Fprintf(out, "working on %s\n", target)
		out.Progress(runner.Progress{Model: t.Model, Operation: runner.OperationBenchmark, Target: target, Done: float64(i) / float64(len(t.Targets))})
		wait := time.Duration(100+rand.N(400)) * time.Millisecond
		if c.Slow {
			wait = time.Hour
		}
		now := time.Now()
		r := runner.Result{Model: t.Model, SourceFormat: "F16", TargetFormat: target, Threshold: 0.12, Started: now}
		select {
		case <-time.After(wait):
			r.Verdict = &verdict.Verdict{Outcome: verdict.Kept, Rounds: 3, Phases: []verdict.PhaseVerdict{{Phase: verdict.Generation, Outcome: verdict.Kept, Original: 100, Quantized: 100}}}
		case <-ctx.Done():
			r.Failure = runner.AsFailure(ctx.Err())
		}
		r.Finished = time.Now()
		out.Result(r)
	}
}

// entry is what the coordinator of the tests has scheduled.
func entry() config.Entry {
	defaults := config.Default()
	e := defaults.NewEntry(0, false)
	e.Name, e.On, e.Targets, e.Overlap = "fleet", []string{"a", "b"}, []string{"Q2_K", "Q8_0"}, config.Queue
	e.StartingDeadline = 0
	return e
}

// models has one model, for each class.
type models struct{}

func (models) Plan(map[string]string) (*model.Plan, error) {
	e := entry()
	resolved := model.Resolved{Entry: e}
	for _, class := range e.On {
		resolved.Models = append(resolved.Models, model.Planned{Model: model.Model{Name: "m"}, Targets: e.Targets, Class: class})
	}
	return &model.Plan{Entries: []model.Resolved{resolved}}, nil
}

type noEngine struct{}

func (noEngine) Probe(context.Context) (runner.EngineInfo, error) { return runner.EngineInfo{}, nil }

func (c *child) coordinate(ctx context.Context, logger *slog.Logger) error {
	state, err := store.Open(c.Dir, store.Options{Host: c.Host, Retention: config.DefaultRetention(), Logger: logger})
	if err != nil {
		return err
	}
	coordinator := fleet.NewCoordinator("the one", redisconn.Secrets{}, hasty, logger)
	prepared, err := coordinator.Prepare(c.config())
	if err != nil {
		return err
	}
	coordinator.Set(prepared)
	d := dispatch.New(state, cycle.NewLog(logger.Handler()))
	plan, err := models{}.Plan(nil)
	if err != nil {
		return err
	}
	d.Configure(dispatch.Config{Entries: []config.Entry{entry()}, Models: models{}, Engine: noEngine{}, Fleet: coordinator}, plan)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go coordinator.Run(ctx, d.Notify)
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	for {
		time.Sleep(200 * time.Millisecond)
		switch {
		case c.Fire:
			d.Due(schedule.Fire{Entry: "fleet", Due: time.Now()})
		case len(state.State().Running) == 0 && len(d.Status().Remote) == 0 && len(d.Status().Queue) == 0:
			cancel()
			<-ended
			return errors.Join(state.Close(), os.WriteFile(c.Done, nil, 0o600))
		}
	}
}

// process is a child that is started again when it has been killed.
type process struct {
	t    *testing.T
	what child
	cmd  *exec.Cmd
}

func (p *process) start() {
	p.t.Helper()
	text, err := json.Marshal(p.what)
	require.NoError(p.t, err)
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	p.cmd.Stderr = logOf(p.t)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(p.t, p.cmd.Start())
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// logOf is a file that the test prints when it has failed.
func logOf(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "log")
	require.NoError(t, err)
	t.Cleanup(func() {
		if text, err := os.ReadFile(f.Name()); err == nil && t.Failed() {
			t.Logf("%s", text[max(0, len(text)-4000):])
		}
		f.Close()
	})
	return f
}

// Whatever is killed, frozen or cut off, workers, coordinator or Redis: each cycle that is recorded ends,
// with one result for each of its targets, and none of them is lost.
func TestChaos(t *testing.T) {
	program.NotShort(t)
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-chaos-seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	redis := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--appendonly", "yes", "--appendfsync", "everysec"}})
	proxy := servers.StartProxy(t, redis.Addr)
	url, dir := "redis://"+proxy.Addr, t.TempDir()
	coordinator := &process{t: t, what: child{Host: "coordinator", URL: url, Dir: dir, Fire: true}}
	all := []*process{
		coordinator,
		{t: t, what: child{Class: "a", Host: "a1", URL: url}},
		{t: t, what: child{Class: "a", Host: "a2", URL: url}},
		{t: t, what: child{Class: "b", Host: "b1", URL: url}},
	}
	for _, p := range all {
		p.start()
		t.Cleanup(p.kill)
	}
	freezes, cuts, redisKills := 0, 0, 0
	for range *chaosKills {
		time.Sleep(time.Duration(200+random.IntN(1000)) * time.Millisecond)
		p := all[random.IntN(len(all))]
		switch random.IntN(8) {
		case 0: // a host that is thought dead, and comes back
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
			freezes++
		case 1:
			redis.Freeze()
			time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
			redis.Thaw()
			freezes++
		case 2:
			redis.Kill()
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
			redis.Restart()
			redisKills++
		case 3:
			proxy.Disconnect()
			time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
			proxy.Connect()
			cuts++
		}
		p.kill()
		p.start()
	}
	coordinator.kill()
	coordinator.what.Fire, coordinator.what.Done = false, filepath.Join(dir, "done")
	coordinator.start()
	ended := make(chan error, 1)
	go func() { ended <- coordinator.cmd.Wait() }()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(3 * time.Minute):
		require.Fail(t, "not every cycle ends")
	}

	s, err := store.Open(dir, store.Options{})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Check())
	assert.Empty(t, s.State().Running)
	cycles, err := s.Cycles(0, 0)
	require.NoError(t, err)
	lost, twice := 0, 0
	seen := map[string]bool{}
	attempts := 0
	for _, c := range cycles {
		_, records, _, err := s.Cycle(c.ID)
		require.NoError(t, err)
		attempts += c.Attempt
		key := fmt.Sprint(c.Due, c.Class, c.Model)
		if seen[key] || len(records) > len(c.Targets) {
			twice++
		}
		seen[key] = true
		for _, target := range c.Targets {
			if !slices.ContainsFunc(records, func(r store.Record) bool { return r.TargetFormat == target && r.Failure == nil }) {
				lost++
				t.Logf("cycle %d of %s: %+v", c.ID, c.Class, records)
			}
		}
	}
	t.Logf("%d cycles in %d attempts, %d processes killed, %d freezes, %d times cut off, Redis killed %d times: %d lost, %d twice", len(cycles), attempts, *chaosKills, freezes, cuts, redisKills, lost, twice)
	assert.NotEmpty(t, cycles)
	assert.Zero(t, lost)
	assert.Zero(t, twice)
}
