// Package fakellama gives tests a fake llama.cpp: programs named llama-quantize,
// llama-bench, llama-perplexity and, where a test asks for it, llama-server that print and
// answer as the real ones do, make whole GGUF files in no time, and fail in every way that a
// test asks for. Their source is in internal/test/fakellama/tools.
//
// What they do is in the file fake.json beside them, a [Behaviour]; without it they
// just work. The original runs at a million prompt and 100,000 generation tokens per second, on
// any host, and takes the time that is reported; a quantized copy is 1.25 times as fast (see
// [Factor]). Copies differ from
// their original as the copies of the bundled model do (see [Quality]).
//
// A measured file is of the stage quantized when it is named by a format, as the copies of
// cycles are, when the fake llama-quantize made one of its name, or, for tests that measure
// a lone file, when its name contains "quantized".
package fakellama

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// Tools are the names of the programs.
var Tools = []string{"llama-quantize", "llama-bench", "llama-perplexity"}

// Behaviour is the content of fake.json.
type Behaviour struct {
	Build Age  `json:"build,omitempty"`
	GPU   bool `json:"gpu,omitempty"` // lists a CUDA device
	// Server adds llama-server; without it files are measured by a process each.
	Server  bool     `json:"server,omitempty"`
	Factors []Factor `json:"factors,omitempty"` // all that match are multiplied
	// Noise multiplies the durations of each run of llama-bench, or of llama-server, the
	// first by the first, starting over at the end.
	Noise []float64 `json:"noise,omitempty"`
	// Computes has llama-server use the CPU for as long as an answer takes, and say how long
	// it took on the clock, as the real one does; else it waits, and says what it should.
	Computes bool `json:"computes,omitempty"`
	// Qualities of copies; the first of a format is taken, and the bundled model's where
	// there is none.
	Qualities []Quality `json:"qualities,omitempty"`
	Faults    []Fault   `json:"faults,omitempty"`
}

// Age is how old a build of llama.cpp is.
type Age string

// The ages.
const (
	Current Age = ""    // 11669
	Old     Age = "old" // none of the optional flags: --dry-run, jsonl, --progress, --no-warmup, -d, --version, --list-devices
	IK      Age = "ik"  // ik_llama.cpp: as Old, and --warmup 0|1
)

// Factor multiplies the samples_ns of the runs that it matches: above 1 is slower. Empty
// fields match everything.
type Factor struct {
	Stage  string  `json:"stage,omitempty"`  // "original", "quantized"
	Format string  `json:"format,omitempty"` // target of the copy that is measured
	Phase  string  `json:"phase,omitempty"`  // "prompt", "generation"
	By     float64 `json:"by"`
}

// Quality is how far copies of a format are from their original. Chunks scatter around it
// by a tenth.
type Quality struct {
	Format       string  `json:"format,omitempty"` // "" is any
	KLDivergence float64 `json:"kl_divergence"`
	SameTop      float64 `json:"same_top"`     // ratio
	LogRatio     float64 `json:"ln_ppl_ratio"` // of the perplexities
}

// Fault is something that goes wrong in the runs that it matches; the first that matches
// is taken. Empty fields match everything, except for Step.
type Fault struct {
	Tool   string `json:"tool,omitempty"`
	Step   string `json:"step,omitempty"` // "help", "version", "devices", "dry-run", "predict", "answer"; "" is the work itself
	Stage  string `json:"stage,omitempty"`
	Format string `json:"format,omitempty"`
	// Calls are the runs concerned, counted from 1 per tool and step; none means all. Those
	// of the step "answer" are the answers of one llama-server, whose first is the warm-up;
	// its step "" is the loading of the file.
	Calls []int `json:"calls,omitempty"`
	Do    Do    `json:"do"`
}

// Do is what goes wrong.
type Do string

// The faults. Where nothing else is said they come after the first line of progress.
const (
	Hang                Do = "hang"
	HangIgnoringSIGTERM Do = "hang ignoring SIGTERM"
	// A grandchild ignores SIGTERM and keeps the pipes open; the tool hangs, too.
	HangWithGrandchild Do = "hang with grandchild"
	// The tool works, and leaves such a grandchild behind.
	LeaveGrandchild Do = "leave grandchild"

	SegmentationFault  Do = "SIGSEGV"
	Abort              Do = "SIGABRT" // as a GGML_ASSERT does
	IllegalInstruction Do = "SIGILL"
	Kill               Do = "SIGKILL" // as the kernel does when memory is out
	WrapperCrash       Do = "exit status 139"

	ExitWithMessage Do = "exit 1"
	NoResult        Do = "exit 0 without result"
	NotLoaded       Do = "failed to load model"
	OutOfMemory     Do = "out of memory"      // ggml's words, exit status 1
	OutOfGPUMemory  Do = "out of GPU memory"  // CUDA's words, then SIGABRT
	NoBuffer        Do = "no buffer"          // the model loader's words, exit status 1
	DiskFull        Do = "disk full"          // a partial output stays behind
	PartialOutput   Do = "partial output"     // exit status 0 all the same
	FloodStdout     Do = "flood stdout"       // without end
	FloodStderr     Do = "flood stderr"       // 20 MB, then the tool works
	Garbage         Do = "garbage"            // on standard output, instead of the result
	Truncated       Do = "truncated JSON"     // exit status 0
	StopAfterFirst  Do = "stop after a phase" // a whole first result, then exit status 1
	Zero            Do = "samples_ns 0"
	Negative        Do = "samples_ns -1"
	NaN             Do = "samples_ns nan"
	Huge            Do = "samples_ns 1e30"
	NoSamples       Do = "no samples_ns"
	WrongTokens     Do = "wrong token count"
	Twice           Do = "each result twice"

	// Of the answers of llama-server, as are Garbage, Truncated, Zero, Negative, NaN, Huge
	// and WrongTokens, which is about those generated.
	CloseConnection  Do = "close the connection"
	NoTimings        Do = "no timings"
	OtherPrompt      Do = "wrong prompt_n"
	NothingCached    Do = "prompts from the beginning" // as where a cache cannot be cut
	MoreThanItTook   Do = "timings longer than the answer took"
	InternalError    Do = "HTTP 500"
	AnswerWithoutEnd Do = "an answer without end"

	// Of the loading of llama-server, which then works.
	BusyWhileIdle Do = "use the CPU while idle"
	LessOffloaded Do = "fewer layers on the GPU"

	// Of llama-perplexity. NaN and Truncated are, too: a row is of nan, and the output
	// ends in the midst of the last one. All exit with status 0.
	ShortText       Do = "short text"          // for a single chunk
	FewChunks       Do = "fewer chunks"        // half of those that were asked for
	HalfPredictions Do = "half of predictions" // the file is cut off
	NoSummary       Do = "no summary"
	NoQuantile      Do = "no 99.9 % quantile"
)

// Lies: the tool says that it succeeded, and exits with status 0.
const (
	// Of llama-quantize, about its output. The last four are of llama-perplexity, too, about the
	// predictions.
	OtherFormat       Do = "a Q8_0"
	HiddenFormat      Do = "a Q8_0 that says it is what was asked for"
	TheSource         Do = "the source"
	LinkToTheSource   Do = "a symbolic link to the source"
	NameOfTheSource   Do = "a hard link to the source"
	SecondName        Do = "a file of two names"
	FewerTensors      Do = "fewer tensors"
	TensorTwice       Do = "a tensor twice"
	OtherShape        Do = "a tensor of another shape"
	OtherArchitecture Do = "another architecture"
	MoreBehindTheEnd  Do = "30 MB behind the end"
	HoleBehindTheEnd  Do = "1 TB behind the end"
	EmptyFile         Do = "an empty file"
	Fifo              Do = "a FIFO"
	Folder            Do = "a folder"
	Device            Do = "a link to a device"
	OtherVocabulary   Do = "another vocabulary"

	// Of llama-bench, about its rows, as is MoreThanItTook.
	OtherFile       Do = "another file"
	OtherParameters Do = "other parameters"
	OtherBatch      Do = "another batch"
	OtherThreads    Do = "other threads"
	OtherDepth      Do = "another depth"
	OneNanosecond   Do = "samples_ns 1"
	OnePhase        Do = "a phase only"

	// Of llama-perplexity: a file of predictions of 100 GB of nothing, and its table.
	HoleOfPredictions  Do = "100 GB of nothing"
	NegativeDivergence Do = "a divergence below 0"
	PerplexityBelow1   Do = "a perplexity below 1"
	HugePerplexity     Do = "a perplexity of 1e300"
	OtherSummary       Do = "a summary of another divergence"
	OtherRatio         Do = "a summary of another original"
	OtherPerplexity    Do = "a summary of another perplexity"
	QuantilesOff       Do = "quantiles below the mean"
)

// Call is a run of a tool, as it was logged.
type Call struct {
	Tool string   `json:"tool"`
	Step string   `json:"step"`
	Args []string `json:"args"` // without the tool's name
	Dir  string   `json:"dir"`
	Env  []string `json:"env"`
}

// BehaviourFile is a file beside the tools.
const BehaviourFile = "fake.json"

// Names of files in the folder that Notes returns.
const (
	callsFile   = "fake.calls"   // a Call a line
	outputsFile = "fake.outputs" // an Output a line
	lockFile    = "fake.lock"    // locked by every process of the fake while it lives
)

// Notes returns the folder in which the tools of dir note what they did: in shared memory,
// where a tool may write although it is confined, or beside the tools on a system without it.
func Notes(dir string) string {
	const shared = "/dev/shm"
	if _, err := os.Stat(shared); err != nil {
		return dir
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(shared, "fakellama-"+hex.EncodeToString(sum[:8]))
}

// LockPath returns the file that the processes of the tools in dir lock.
func LockPath(dir string) string { return filepath.Join(Notes(dir), lockFile) }

// Output is a file that the fake llama-quantize made.
type Output struct {
	Path   string `json:"path"`
	Format string `json:"format"`
}

// LogCall is for the fake itself: it appends a call and says how many there were of its
// tool and step, this one included.
func LogCall(dir string, call Call) (nth int, err error) {
	path := filepath.Join(Notes(dir), callsFile)
	if err := appendLine(path, call); err != nil {
		return 0, err
	}
	calls, err := readLines[Call](path)
	for _, c := range calls {
		if c.Tool == call.Tool && c.Step == call.Step {
			nth++
		}
	}
	return nth, err
}

// Outputs are all that the fake in dir has made so far.
func Outputs(dir string) ([]Output, error) {
	return readLines[Output](filepath.Join(Notes(dir), outputsFile))
}

// LogOutput is for the fake itself: it notes a file that was made.
func LogOutput(dir string, output Output) error {
	return appendLine(filepath.Join(Notes(dir), outputsFile), output)
}

func appendLine(path string, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

func readLines[T any](path string) ([]T, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var values []T
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var value T
		if err := json.Unmarshal(lines.Bytes(), &value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, lines.Err()
}

// Build makes a folder of tools that behave well, which the end of the test removes. The
// first call in a test binary compiles the fake.
func Build(t testing.TB) (dir string) {
	t.Helper()
	tools := program.Build(t, "./internal/test/fakellama/tools")
	dir = t.TempDir()
	if notes := Notes(dir); notes != dir {
		if err := os.MkdirAll(notes, 0o700); err != nil {
			t.Fatalf("making a folder for what the fake llama.cpp does: %v", err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(notes) })
	}
	for _, tool := range Tools {
		if err := os.Symlink(tools, filepath.Join(dir, tool)); err != nil {
			t.Fatalf("installing the fake llama.cpp: %v", err)
		}
	}
	return dir
}

// BuildWith is Build and Set.
func BuildWith(t testing.TB, behaviour Behaviour) (dir string) {
	t.Helper()
	dir = Build(t)
	Set(t, dir, behaviour)
	return dir
}

// Set changes the behaviour of the tools in dir, from their next start on. An engine
// that has probed them does not notice another Age: the files are the same.
func Set(t testing.TB, dir string, behaviour Behaviour) {
	t.Helper()
	text, err := json.MarshalIndent(behaviour, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, BehaviourFile), text, 0o600)
	}
	if err == nil {
		err = installServer(dir, behaviour.Server)
	}
	if err != nil {
		t.Fatalf("setting the behaviour of the fake llama.cpp: %v", err)
	}
}

// installServer adds llama-server to the tools in dir, or takes it away.
func installServer(dir string, wanted bool) error {
	server := filepath.Join(dir, "llama-server")
	if err := os.Remove(server); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !wanted {
		return nil
	}
	tools, err := os.Readlink(filepath.Join(dir, "llama-bench"))
	if err != nil {
		return err
	}
	return os.Symlink(tools, server)
}

// Calls are all runs of the tools in dir so far, in order.
func Calls(t testing.TB, dir string) []Call {
	t.Helper()
	calls, err := readLines[Call](filepath.Join(Notes(dir), callsFile))
	if err != nil {
		t.Fatalf("reading the calls of the fake llama.cpp: %v", err)
	}
	return calls
}

// NoneLeft fails the test unless every process of the tools in dir has ended,
// grandchildren too. The locks of a killed process go a moment after its pipes, so this
// waits a little.
func NoneLeft(t testing.TB, dir string) {
	t.Helper()
	file, err := os.OpenFile(LockPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatalf("opening the lock of the fake llama.cpp: %v", err)
	}
	locked := make(chan error, 1)
	go func() {
		defer file.Close()
		locked <- syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	}()
	select {
	case err := <-locked:
		if err != nil {
			t.Fatalf("locking the fake llama.cpp: %v", err)
		}
	case <-time.After(2 * time.Minute): // against hangs
		t.Fatal("a process of the fake llama.cpp is still alive")
	}
}
