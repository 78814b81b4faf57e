package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Round measures files so that they can be compared; see [runner.Engine].
func (e *Engine) Round(ctx context.Context, job runner.RoundJob, report func(file int, done float64)) ([]runner.FileRound, error) {
	if err := checkNames(job.Files...); err != nil {
		return nil, err
	}
	tools, err := e.tools(ctx)
	if err != nil {
		return nil, err
	}
	if job.Method == config.MethodPaired {
		return e.pairedRound(ctx, tools, job, report)
	}
	return e.processRound(ctx, tools, job, report), nil
}

// pairedRound has a fresh llama-server for each file, all of them in memory, and asks them in
// turn. What an execution gets of pages, cores and caches differs from one to the next, and
// stays for as long as it lives: the servers of one round are one sample of that.
func (e *Engine) pairedRound(ctx context.Context, tools toolset, job runner.RoundJob, report func(file int, done float64)) ([]runner.FileRound, error) {
	if tools.server.unusable != "" {
		return nil, &runner.Unpaired{Err: errors.New(tools.server.unusable)}
	}
	if why := withoutSockets(job.Dir); why != "" {
		return nil, &runner.Unpaired{Err: errors.New(why)}
	}
	r := &pairedRound{job: job, report: report, logger: e.logger, servers: make([]*server, len(job.Files)), files: make([]runner.FileRound, len(job.Files))}
	r.saves = tools.server.saves && r.reusable()
	defer r.close(job.Dir)
	observed := job.Observe()
	text := r.text()
	if err := r.start(ctx, e, tools, text); err != nil {
		return nil, err
	}
	if r.over() {
		return r.files, nil
	}
	if err := r.turns(ctx, text, r.turn); err != nil {
		return nil, err
	}
	r.finish(ctx, observed, tools, e)
	return r.files, nil
}

type pairedRound struct {
	job     runner.RoundJob
	report  func(file int, done float64)
	logger  *slog.Logger
	servers []*server // in the order of the job's files; nil where one has failed
	files   []runner.FileRound
	prompts int  // different ones so far
	filled  bool // the caches of all clients
	saves   bool // the servers' caches, as they are when the first turn begins: see prefix.go
}

func socketName(file int) string { return fmt.Sprintf("s%d.sock", file) }

// start starts the servers, as many at a time as their threads have cores to load on, and
// returns when all are loaded, warmed up and on the round's CPUs. When the original fails, the
// others are given up. Files that do not fit into memory together are an error.
func (r *pairedRound) start(ctx context.Context, e *Engine, tools toolset, text []int32) error {
	group, loading := errgroup.WithContext(ctx)
	group.SetLimit(loadersOf(e.benchThreads(tools.gpu)))
	for n, i := range r.job.Order {
		r.report(-1, 0.1*float64(n)/float64(len(r.job.Order)))
		r.files[i].Started = time.Now()
		socket := socketName(i)
		if err := os.Remove(filepath.Join(r.job.Dir, socket)); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.fail(i, fmt.Errorf("removing the socket of an earlier round: %w", err))
			continue
		}
		group.Go(func() error {
			s := e.startServer(ctx, e.serverCommand(tools, r.job, i, r.saves), r.job.CPUs, socket)
			r.servers[i] = s
			err := s.ready(loading)
			if err == nil {
				err = r.warmUp(loading, i, text)
			}
			if err == nil {
				err = s.pin()
			}
			if err == nil {
				return nil
			}
			r.fail(i, err)
			switch {
			case runner.AsFailure(err).Reason == runner.ReasonOutOfMemory:
				return &runner.Unpaired{Err: err}
			case i == 0:
				return errNoOriginal
			}
			return nil
		})
	}
	if err := group.Wait(); !errors.Is(err, errNoOriginal) {
		return err
	}
	return nil
}

// errNoOriginal ends the loading of a round whose original has failed.
var errNoOriginal = errors.New("the original has failed")

// loadersOf returns how many servers of so many threads load at a time: threads that wait for
// each other take much longer where they do not all have a core. 0 threads are as many as
// there are cores.
func loadersOf(threads int) int {
	if threads <= 0 {
		return 1
	}
	return max(runtime.GOMAXPROCS(0)/threads, 1) // which knows the cpuset and the quota
}

// fail takes a file out of the round.
func (r *pairedRound) fail(file int, err error) {
	r.end(file)
	r.files[file].Err = err
}

// end ends the server of a file, if it still runs, and keeps its trace.
func (r *pairedRound) end(file int) {
	if s := r.servers[file]; s != nil {
		s.close()
		r.files[file].Measurement.Run = s.trace
		r.servers[file] = nil
	}
}

// over reports whether there is nothing left to compare with.
func (r *pairedRound) over() bool { return r.servers[0] == nil }

// warmTokens are generated to warm a server up.
const warmTokens = 4

// warmUp has a server fill its cache as deep as the first turn begins, and compute both phases
// once: a prompt of all tokens, because the buffers that it takes get their pages when they are
// written first, which would be a third of the time of a short prompt (llama-bench does it, too).
func (r *pairedRound) warmUp(ctx context.Context, file int, text []int32) error {
	s := r.servers[file]
	if r.saves {
		if done, err := r.warmUpFromSaved(ctx, file, text); done || err != nil {
			return err
		}
	}
	err := s.compute(ctx, text[:min(r.deep(), len(text))])
	if err == nil && r.saves {
		err = r.save(ctx, file)
	}
	return err
}

// compute has a server compute both phases once.
func (s *server) compute(ctx context.Context, text []int32) error {
	a, err := s.complete(ctx, text, warmTokens)
	if err == nil {
		s.prompt = inMilliseconds(*a.PromptMS)
		s.token = inMilliseconds(*a.PredictedMS / (warmTokens - 1))
	}
	return err
}

// deep returns how many tokens the cache of a server that is warmed up holds.
func (r *pairedRound) deep() int {
	deep := r.touched()
	if first := slices.IndexFunc(r.job.Turns, measured); first >= 0 && r.job.Turns[first].Phase != verdict.Prompt { // which has a text of its own
		deep = max(deep, r.job.Turns[first].Depth)
	}
	return deep
}

// touched returns how many tokens the longest prompt that is measured has, with those before it.
func (r *pairedRound) touched() int {
	const prompt = 64
	deep := r.job.Depth + prompt
	for _, turn := range r.job.Turns {
		if turn.Phase == verdict.Prompt && measured(turn) {
			deep = max(deep, turn.Depth+turn.Tokens)
		}
	}
	return deep
}

// measured reports whether a turn is measured in this round.
func measured(turn runner.Turn) bool { return len(turn.Order) > 0 }

// text returns a new prompt, of as many tokens as the cache has to hold. Its first tokens, up
// to the depth at which the phases begin, are the same in every prompt of the cycle, and the
// others are not, so that the cache can serve the first ones only; but for the first prompt of a round,
// which is the same in all. Tokens are drawn from the
// whole vocabulary, as llama-bench does it, the same for all files.
func (r *pairedRound) text() []int32 {
	r.prompts++
	number := uint64(r.prompts)
	if r.prompts > 1 {
		number += uint64(r.job.Number) << 32
	}
	same, other := rand.New(rand.NewPCG(r.job.Seed, 0)), rand.New(rand.NewPCG(r.job.Seed, number))
	text := make([]int32, runner.ContextOf(r.job.Turns))
	vocabulary := r.vocabulary()
	for i := range text {
		if i < r.job.Depth {
			text[i] = same.Int32N(vocabulary)
		} else {
			text[i] = other.Int32N(vocabulary)
		}
	}
	if r.job.Depth < len(text) { // here the last prompt must not have the same token
		text[r.job.Depth] = int32(r.prompts) % vocabulary
	}
	return text
}

// maxTurns bounds how often one turn is measured; with what others took of it the last time,
// it counts all the same. All turns together are repeated no more often than a cycle's rounds have turns.
const maxTurns = 4

// turns has every turn measured, and repeated when others took too much of its time.
func (r *pairedRound) turns(ctx context.Context, text []int32, measure func(ctx context.Context, n int, turn runner.Turn, text []int32) (map[int]runner.Burst, error)) error {
	repeats := 0
	for n, turn := range r.job.Turns {
		for try := 1; measured(turn); try++ {
			r.report(-1, 0.1+0.9*float64(n)/float64(len(r.job.Turns)))
			if turn.Phase == verdict.Prompt {
				text = r.text()
			}
			bursts, err := measure(ctx, n, turn, text)
			if err != nil || r.over() {
				return err
			}
			again := disturbed(bursts, r.job.MaxDisturbance) && try < maxTurns && repeats < len(r.job.Turns)
			for i, burst := range bursts {
				burst.Repeated = again
				r.files[i].Measurement.Bursts = append(r.files[i].Measurement.Bursts, burst)
			}
			if !again {
				break
			}
			repeats++
		}
	}
	r.report(-1, 1)
	return nil
}

// errorOfWaits is how much of a wait stays in a burst from whose time it is subtracted: caches are cold
// afterwards. See "Waits" in BENCHMARKS.md.
const errorOfWaits = 1.0 / 3

// disturbed reports whether others took more than so much from one of the bursts of a turn.
func disturbed(bursts map[int]runner.Burst, most float64) bool {
	for _, b := range bursts {
		if max(b.Taken-b.Waited, 0)+b.Waited*errorOfWaits > most {
			return true
		}
	}
	return false
}

// turn measures each file once, and gives the bursts by file.
func (r *pairedRound) turn(ctx context.Context, n int, turn runner.Turn, text []int32) (map[int]runner.Burst, error) {
	var answers []answered
	if turn.Clients > 1 {
		r.fill(ctx, turn)
	}
	if r.long(turn) && r.sliceable() {
		answers = r.slicedTurn(ctx, n, turn, text)
	} else {
		answers = r.wholeTurn(ctx, n, turn, text)
	}
	bursts := map[int]runner.Burst{}
	for _, a := range answers {
		if _, unpaired := errors.AsType[*runner.Unpaired](a.err); unpaired {
			return nil, a.err
		}
		if a.err != nil {
			r.fail(a.file, a.err)
			continue
		}
		bursts[a.file] = a.burst
	}
	return bursts, nil
}

// fill has each server compute what the clients of all turns have in their caches, and a little
// more, before the first turn of several in a round: a server that computes prompts generates more
// slowly meanwhile.
func (r *pairedRound) fill(ctx context.Context, turn runner.Turn) {
	if r.filled {
		return
	}
	r.filled = true
	turn.Clients = runner.ClientsOf(r.job.Turns) // the texts of fewer are the first of them
	const tokens = 4
	for _, i := range turn.Order {
		if s := r.servers[i]; s != nil {
			a, err := s.completeAll(ctx, r.texts(turn), tokens)
			if err != nil {
				r.fail(i, err)
				continue
			}
			s.atOnce = inMilliseconds(*a.PredictedMS)
		}
	}
}

// texts returns a prompt for each client of a turn, every one with another first token: a
// server finds the client's cache by the beginning of its prompt.
func (r *pairedRound) texts(turn runner.Turn) [][]int32 {
	vocabulary := r.vocabulary()
	random := rand.New(rand.NewPCG(r.job.Seed, ^uint64(0)))
	texts := make([][]int32, turn.Clients)
	for client := range texts {
		texts[client] = make([]int32, turn.Depth)
		for i := range texts[client] {
			texts[client][i] = random.Int32N(vocabulary)
		}
		texts[client][0] = int32(client) % vocabulary
	}
	return texts
}

func (r *pairedRound) vocabulary() int32 { return int32(max(min(r.job.Vocabulary, 1<<30), 1)) }

// wholeTurn measures one file after the other, until the original fails.
func (r *pairedRound) wholeTurn(ctx context.Context, n int, turn runner.Turn, text []int32) []answered {
	answers := []answered{}
	for _, i := range turn.Order {
		s := r.servers[i]
		if s == nil {
			continue
		}
		burst, err := r.burst(ctx, s, n, turn, text)
		answers = append(answers, answered{i, burst, err})
		if i == 0 && err != nil {
			break
		}
	}
	return answers
}

// burst measures a part of a phase.
func (r *pairedRound) burst(ctx context.Context, s *server, n int, turn runner.Turn, text []int32) (runner.Burst, error) {
	if turn.Clients > 1 {
		return s.burstOfAll(ctx, n, turn, r.texts(turn))
	}
	return s.burst(ctx, n, turn, text)
}

// burstOfAll measures sequences that are generated at once: the tokens of all, over the time of
// the one that took longest. Their prompts come from the cache but for the last token: one that is
// computed again has the others wait, and how often that is would be what is compared.
func (s *server) burstOfAll(ctx context.Context, n int, turn runner.Turn, texts [][]int32) (runner.Burst, error) {
	burst := runner.Burst{Turn: n, Phase: turn.Phase, Depth: turn.Depth, Tokens: turn.Tokens * turn.Clients, Clients: turn.Clients}
	a, err := s.completeAll(ctx, texts, turn.Tokens+1)
	if err != nil {
		return burst, err
	}
	if *a.PromptN > 1 {
		return burst, &runner.Unpaired{Err: fmt.Errorf("%s evaluated %d tokens of a prompt that was in its cache but for the last one, with %d clients at once", s.tool, *a.PromptN, turn.Clients)}
	}
	return burst, s.time(&burst, s.generation(a), *a.PredictedMS)
}

// burst measures a part of a phase with one sequence.
func (s *server) burst(ctx context.Context, n int, turn runner.Turn, text []int32) (runner.Burst, error) {
	burst := runner.Burst{Turn: n, Phase: turn.Phase, Depth: turn.Depth, Tokens: turn.Tokens}
	prompt, tokens := text[:turn.Depth+turn.Tokens], 1
	if turn.Phase != verdict.Prompt {
		// The first token comes with the prompt, and is not in the time of the others.
		prompt, tokens = text[:turn.Depth], turn.Tokens+1
	}
	a, err := s.complete(ctx, prompt, tokens)
	if err != nil {
		return burst, err
	}
	milliseconds := *a.PredictedMS
	if turn.Phase == verdict.Prompt {
		if *a.PromptN != turn.Tokens {
			// A cache that cannot be cut, of a recurrent model or a sliding window, is filled again.
			why := fmt.Errorf("%s evaluated %d tokens of a prompt of which %d were not in the cache", s.tool, *a.PromptN, turn.Tokens)
			if turn.Depth > 0 && *a.PromptN > turn.Tokens {
				return burst, &runner.Unpaired{Err: why}
			}
			return burst, s.unusable("%w", why)
		}
		milliseconds = *a.PromptMS
	} else {
		a = s.generation(a)
	}
	if err := s.time(&burst, a, milliseconds); err != nil {
		return burst, err
	}
	if turn.Phase != verdict.Prompt { // a warm-up of a few tokens may have waited for most of its time
		s.token = burst.Time / time.Duration(burst.Tokens)
	}
	return burst, nil
}

// generation returns what is known of the generation in an answer, without the prompt before it: that took as long
// as the server says. Of a server that ran in slices, what became of it before the last pause until then is left out.
func (s *server) generation(a answer) answer {
	a.during.from = a.during.from.Add(inMilliseconds(*a.PromptMS))
	if last := s.pauses.lastBefore(a.during.from); last.to.After(a.watched.from) {
		a.watched.from, a.became = last.to, host.Between(last.schedule, a.after)
	}
	return a
}

// mostWaits is the greatest share of a burst's time that is taken for waits. Where they are more, the
// rest says little.
const mostWaits = 0.5

// time gives a burst the time that a server said it took, without the pauses in it and, on CPUs, without its
// waits, as far as they cannot have been before or after it: others who have a CPU for some
// milliseconds take more of a short burst than of a long one, which would be a difference between the files.
// An accelerator computes while a thread waits, and threads that wait while another one sleeps delay nothing:
// what is left has to be time in which a thread ran.
func (s *server) time(burst *runner.Burst, a answer, milliseconds float64) error {
	said := inMilliseconds(milliseconds)
	stopped, slices := s.pauses.least(a.during, said)
	said -= stopped
	watched := a.watched.to.Sub(a.watched.from)
	stopped, _ = s.pauses.least(a.watched, watched)
	running := watched - stopped
	burst.Time, burst.Taken = said, a.became.Taken(watched, running)
	waited := a.became.Waited - max(running-said, 0)
	if waited > 0 && a.became.Ran >= (said-waited)/2 && s.log.onCPU() {
		burst.Waited = min(waited.Seconds()/said.Seconds(), mostWaits)
		burst.Time -= time.Duration(burst.Waited * float64(said))
	}
	if slices > 1 {
		burst.Slices = slices
	}
	if burst.Time <= 0 || float64(burst.Tokens)/burst.Time.Seconds() > maxThroughput {
		return s.unusable("%d tokens in %v ms is impossible", burst.Tokens, milliseconds)
	}
	return nil
}

// finish records what the servers report, and ends them.
func (r *pairedRound) finish(ctx context.Context, observed func(ours time.Duration, threads int) *host.Load, tools toolset, e *Engine) {
	threads := e.benchThreads(tools.gpu)
	var ofProcesses map[int]int64
	if tools.gpu {
		ofProcesses = e.ofProcesses(ctx, r.job.Dir)
	}
	for i, s := range r.servers {
		if s == nil {
			continue
		}
		m := &r.files[i].Measurement
		m.Throughput = runner.Throughputs(m.Bursts)
		m.Build, m.Commit = tools.version.build, tools.version.commit
		m.Backends, m.GPU, m.CPU = s.log.named(), tools.gpuNames(), tools.cpu
		m.Threads, m.CPUs = threads, s.cpus
		m.Offload = s.log.where()
		m.Memory = s.memory(m.Offload, ofProcesses)
		if m.Idle = s.idle(); m.Idle >= runner.NoticeableIdle {
			e.logger.Warn("a server used the CPU while others were measured", "file", r.job.Files[i], "cpus", m.Idle)
		}
	}
	ours := time.Duration(0)
	for _, s := range r.servers { // all of them rested until here
		if s != nil {
			s.stop(errStopped)
		}
	}
	for i := range r.servers {
		r.end(i)
		ours += r.files[i].Measurement.Run.CPUTime
	}
	load := observed(ours, threads)
	for i := range r.files {
		r.files[i].Load = load
	}
}

// memory returns what the server has taken. Of a single accelerator the driver may know more
// than the buffers that the server printed.
func (s *server) memory(o *runner.Offload, ofProcesses map[int]int64) runner.Memory {
	m := runner.Memory{Host: s.watch.PeakMemory(), Devices: onDevices(o)}
	if m.Host == 0 { // the system does not report it
		m.Host = onHost(o)
	}
	if s.process != nil && len(m.Devices) == 1 {
		for device, bytes := range m.Devices {
			m.Devices[device] = max(bytes, ofProcesses[s.process.Pid])
		}
	}
	return m
}

// close ends what is left, and removes the sockets.
func (r *pairedRound) close(dir string) {
	for i := range r.servers {
		r.end(i)
		_ = os.Remove(filepath.Join(dir, socketName(i))) // goes with the directory, at last
	}
}

// serverCommand starts a server of one file.
func (e *Engine) serverCommand(tools toolset, job runner.RoundJob, file int, saves bool) command {
	number := strconv.Itoa
	batch := number(max(job.PromptTokens, 1))
	args := []string{"-m", job.Files[file], "--host", socketName(file), "-b", batch, "-ub", batch}
	args = append(args, cacheArgs(job.Turns, tools.server.unifies)...)
	if saves {
		args = append(args, saveOption, ".")
	}
	if threads := e.benchThreads(tools.gpu); threads > 0 {
		args = append(args, "-t", number(threads), "-tb", number(threads))
	}
	args = append(args, tools.server.always...)
	args = append(args, tools.server.translated...)
	return command{
		operation: operation{
			tool:     serverTool,
			doing:    "measuring " + job.Files[file],
			reason:   runner.ReasonBenchmark,
			limit:    time.Duration(e.cfg.Timeouts.Benchmark) * time.Duration(len(job.Files)),
			limitKey: "engine.timeouts.benchmark",
		},
		program: tools.server.binary,
		args:    args,
		dir:     job.Dir,
	}
}

// cacheArgs are the options for as many clients as the turns have. A build that has them share
// one cache needs no more than they use; any other gives each an equal part of it.
func cacheArgs(turns []runner.Turn, unifies bool) []string {
	clients, tokens := runner.ClientsOf(turns), runner.ContextOf(turns)+contextSlack
	args := []string{"-np", strconv.Itoa(clients)}
	switch {
	case clients == 1:
	case unifies:
		args = append(args, "--kv-unified")
		tokens = max(tokens, runner.CellsOf(turns)+clients*contextSlack)
	default:
		tokens *= clients
	}
	return append(args, "-c", strconv.Itoa(tokens))
}

// contextSlack is room in the cache of a client for the token that is generated with the prompt.
const contextSlack = 8
