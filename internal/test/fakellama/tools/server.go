package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// server is a llama-server that has one file.
type server struct {
	*fake
	stage, format string
	context       int
	run           int // of the tool, counted from 1
	loaded        atomic.Bool

	mu      sync.Mutex // one answer at a time
	answers int
	cache   []int32 // the last prompt
	saved   string  // the folder of saved caches
}

func (f *fake) server() {
	if slices.Contains(f.args, "--help") {
		f.begin("help", "", "")
		fmt.Print(f.help(serverHelp, "ending in .sock"))
		return
	}
	file, socket := f.value("-m"), f.value("--host")
	context, err := strconv.Atoi(f.value("-c"))
	if err != nil {
		f.fail("error: invalid argument: -c")
	}
	s := &server{fake: f, context: context}
	s.stage, s.format = f.stage(file)
	// The real one answers while it loads, too.
	listener, err := net.Listen("unix", socket)
	if err != nil {
		f.fail("couldn't bind HTTP server socket, hostname: " + socket)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("POST /completion", s.completion)
	if slices.Contains(f.args, "--slot-save-path") {
		s.saved = f.value("--slot-save-path")
		mux.HandleFunc("POST /slots/0", s.slot)
	}
	served := make(chan error)
	go func() { served <- http.Serve(listener, mux) }()
	s.load(file)
	f.fail((<-served).Error())
}

// value is the value of an option, which has to be there once.
func (f *fake) value(option string) string {
	i := slices.Index(f.args, option)
	if i < 0 || i+1 == len(f.args) || slices.Contains(f.args[i+1:], option) {
		f.fail("error: invalid argument: " + option)
	}
	return f.args[i+1]
}

// load prints where it puts the model, as the real one does.
func (s *server) load(file string) {
	do, run := s.begin("", s.stage, s.format)
	m, err := readModel(file)
	if err != nil || do == fakellama.NotLoaded {
		s.say(fmt.Sprintf("0.00.091.906 E llama_model_load: error loading model: %v", err))
		s.fail(fmt.Sprintf("error: failed to load model '%s'", file))
	}
	s.run = run
	device, also, layers := "CPU", "", 0
	if s.behaviour.GPU {
		device, also, layers = "CUDA0", "CUDA : ARCHS = 900 | ", 5
	}
	if do == fakellama.LessOffloaded {
		layers = 2
	}
	s.say("0.00.082.622 I cmn  common_param: system_info: n_threads = 1 (n_threads_batch = 1) / 2 | " + also + "CPU : SSE3 = 1 | AVX2 = 1 | ")
	if s.behaviour.GPU {
		s.say(fmt.Sprintf("0.00.099.700 I load_tensors: offloaded %d/5 layers to GPU", layers))
	}
	s.say(fmt.Sprintf("0.00.099.704 I load_tensors: %12s model buffer size = %8.2f MiB", device, mebibytes(m.bytes())))
	s.say(fmt.Sprintf("0.00.103.122 I llama_kv_cache: %10s KV buffer size = %8.2f MiB", device, 5.0))
	if do == fakellama.BusyWhileIdle {
		go func() {
			for spins := new(atomic.Int64); ; spins.Add(1) {
				continue
			}
		}()
	}
	s.loaded.Store(true)
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	if !s.loaded.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`)
		return
	}
	fmt.Fprint(w, `{"status":"ok"}`)
}

func (s *server) completion(w http.ResponseWriter, request *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var asked struct {
		Prompt      prompts `json:"prompt"`
		Predict     int     `json:"n_predict"`
		CachePrompt bool    `json:"cache_prompt"`
	}
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tokens, last := 0, asked.Prompt[len(asked.Prompt)-1]
	for _, prompt := range asked.Prompt {
		tokens += len(prompt) + asked.Predict
	}
	if len(last) == 0 || asked.Predict < 1 || tokens > s.context {
		http.Error(w, fmt.Sprintf("%d tokens do not suit a context of %d", tokens, s.context), http.StatusBadRequest)
		return
	}
	s.answers++
	do := s.due("answer", s.stage, s.format, s.answers)
	if s.refuse(w, do) {
		return
	}

	cached := 0
	if asked.CachePrompt && do != fakellama.NothingCached {
		cached = min(commonPrefix(s.cache, last), len(last)-1) // one is always evaluated
	}
	s.cache = last
	evaluated := len(last) - cached
	promptMS := 1000 * float64(evaluated) / promptSpeed * s.factor(s.stage, s.format, "prompt", s.run)
	predictedMS := 1000 * float64(asked.Predict-1) * float64(len(asked.Prompt)) / generationSpeed * s.factor(s.stage, s.format, "generation", s.run)
	if s.behaviour.Computes {
		promptMS, predictedMS = compute(promptMS), compute(predictedMS)
	} else { // the reported times must not be longer than the answer takes
		time.Sleep(time.Duration((promptMS + predictedMS) * float64(time.Millisecond)))
	}
	text := answer(do, cached, evaluated, asked.Predict, promptMS, predictedMS)
	if len(asked.Prompt) > 1 {
		text = "[" + strings.Repeat(text+",", len(asked.Prompt)-1) + text + "]"
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprint(w, text)
}

// slot saves the cache to a file, or restores it.
func (s *server) slot(w http.ResponseWriter, request *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	action := request.URL.Query().Get("action")
	do, _ := s.begin(action, s.stage, s.format)
	if s.refuse(w, do) {
		return
	}
	var asked struct {
		File string `json:"filename"`
	}
	err := json.NewDecoder(request.Body).Decode(&asked)
	file := filepath.Join(s.saved, filepath.Base(asked.File))
	switch {
	case err != nil:
	case action == "save":
		var text []byte
		if text, err = json.Marshal(s.cache); err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
	case action == "restore":
		var text []byte
		if text, err = os.ReadFile(file); err == nil {
			err = json.Unmarshal(text, &s.cache)
		}
	default:
		err = errors.New("unknown action")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, `{"id_slot":0,"filename":%q,"n_%sd":%d}`, asked.File, action, len(s.cache))
}

// prompts are one or several: tokens, or a list of them for each.
type prompts [][]int32

func (p *prompts) UnmarshalJSON(data []byte) error {
	var one []int32
	if json.Unmarshal(data, &one) == nil && len(one) > 0 {
		*p = prompts{one}
		return nil
	}
	if err := json.Unmarshal(data, (*[][]int32)(p)); err != nil {
		return err
	}
	if len(*p) == 0 {
		return errors.New("no prompt")
	}
	return nil
}

// compute uses so many milliseconds of a CPU, and gives how many it took on the clock.
func compute(milliseconds float64) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now) // which every thread has
		return time.Duration(now.Nano())
	}
	began, before := time.Now(), used()
	for used()-before < time.Duration(milliseconds*float64(time.Millisecond)) {
		continue
	}
	return float64(time.Since(began)) / float64(time.Millisecond)
}

// refuse commits a fault that leaves no timings, and reports whether there was one.
func (s *server) refuse(w http.ResponseWriter, do fakellama.Do) bool {
	switch do {
	case fakellama.CloseConnection:
		panic(http.ErrAbortHandler)
	case fakellama.InternalError:
		http.Error(w, `{"error":{"code":500,"message":"something went wrong in the fake","type":"server_error"}}`, http.StatusInternalServerError)
	case fakellama.Garbage:
		fmt.Fprint(w, "\x1b[31m<html>502 Bad Gateway</html>\x00\xff")
	case fakellama.AnswerWithoutEnd:
		for text := strings.Repeat("x", 1<<16); ; {
			if _, err := fmt.Fprint(w, text); err != nil {
				break
			}
		}
	default:
		s.commit(do)
		return false
	}
	return true
}

func answer(do fakellama.Do, cached, evaluated, predicted int, promptMS, predictedMS float64) string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	prompt, generation := number(promptMS), figure(do, number(predictedMS))
	switch do {
	case fakellama.MoreThanItTook:
		generation = number(predictedMS + float64(time.Hour/time.Millisecond))
	case fakellama.WrongTokens:
		predicted--
	case fakellama.OtherPrompt:
		evaluated--
	}
	text := fmt.Sprintf(`{"index":0,"content":"x","stop":true,"timings":{"cache_n":%d,"prompt_n":%d,"prompt_ms":%s,"predicted_n":%d,"predicted_ms":%s}}`,
		cached, evaluated, prompt, predicted, generation)
	switch do {
	case fakellama.NoTimings:
		text = `{"index":0,"content":"x","stop":true}`
	case fakellama.Truncated:
		text = text[:len(text)*2/3]
	}
	return text
}

func commonPrefix(a, b []int32) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
