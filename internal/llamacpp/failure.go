package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/process"
	"github.com/quant-exporter/quant-exporter/runner"
)

// operation says what a tool is doing, for the message when it fails.
type operation struct {
	tool     string
	doing    string        // "measuring original.gguf"
	reason   runner.Reason // when nothing more precise is known
	limit    time.Duration
	limitKey string // configuration key that raises the limit; "" when none does
	confined bool   // ran in the sandbox
}

// failure turns the end of a process into a reason and a message that says what to do.
func (op operation) failure(ctx context.Context, result process.Result, err error) error {
	var (
		start   *process.StartError
		timeout *process.TimeoutError
		exit    *process.ExitError
	)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return op.stopped(ctx)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EAGAIN):
		return runner.Failf(runner.ReasonHostLimit, "%s %w: too few files may be open, or processes run, at a time; raise the limits (ulimit -n and -u, LimitNOFILE= and TasksMax= of the service)", op.tool, err)
	case errors.As(err, &start) && errors.Is(err, syscall.ENOMEM):
		return runner.Failf(runner.ReasonOutOfMemory, "%s %w: this host, or the limit of the service, has no memory left for another process", op.tool, err)
	case errors.As(err, &start) && inGoneDir(err):
		return runner.Failf(runner.ReasonWorkDir, "%s %w: its working folder has gone", op.tool, err)
	case errors.As(err, &start):
		return runner.Failf(runner.ReasonEngineMissing, "%s %w: is it built for this machine, and whole?%s", op.tool, err, op.refused(err.Error()))
	case errors.As(err, &timeout):
		return op.timedOut(timeout, result)
	case errors.Is(err, process.ErrFlood):
		return runner.Failf(op.reason, "%s %w (%d bytes) while %s and was killed%s", op.tool, err, outputLimit, op.doing, lastWords(result))
	case errors.As(err, &exit):
		return op.died(exit, result)
	default: // no defect of the tool's
		return fmt.Errorf("running %s: %w", op.tool, err)
	}
}

// refused returns a hint where what a confined tool said may come from the sandbox.
func (op operation) refused(said string) string {
	if !op.confined {
		return ""
	}
	return refusedBySandbox(said)
}

// inGoneDir reports whether a tool was to start in a directory that is not there.
func inGoneDir(err error) bool {
	path, ok := errors.AsType[*fs.PathError](err)
	return ok && path.Op == "chdir" && errors.Is(err, fs.ErrNotExist)
}

// stopped is the failure of a run that its caller canceled, or that took too long.
func (op operation) stopped(ctx context.Context) error {
	reason := runner.ReasonCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		reason = runner.ReasonTimeout
	}
	return runner.Failf(reason, "%s was stopped while %s: %w", op.tool, op.doing, context.Cause(ctx))
}

func (op operation) timedOut(timeout *process.TimeoutError, result process.Result) error {
	advice := ""
	if op.limitKey != "" {
		advice = "; if it was not hung, raise " + op.limitKey
	}
	return runner.Failf(runner.ReasonTimeout, "%s %w while %s and was killed%s%s", op.tool, timeout, op.doing, advice, lastWords(result))
}

// What the tools and their back ends say.
var (
	outOfMemory = regexp.MustCompile(`(?i)out of memory|failed to allocate|unable to allocate|insufficient memory|not enough memory|cannot allocate memory|std::bad_alloc|ErrorOutOf(Device|Host)Memory`)
	diskFull    = regexp.MustCompile(`(?i)no space left on device|disk quota exceeded|basic_ios::clear: iostream error`)
	badModel    = regexp.MustCompile(`(?i)failed to load model|invalid magic|corrupted or incomplete|not within the file bounds|unknown model architecture`)
)

// died is for a tool that ended by itself. What it said comes before the way it ended:
// back ends abort when they have no memory.
func (op operation) died(exit *process.ExitError, result process.Result) error {
	text := strings.Join(result.Tail, "\n")
	quantizing := op.reason == runner.ReasonQuantize
	sig := signalOf(exit)
	fail := func(reason runner.Reason, what, advice string) error {
		return runner.Failf(reason, "%s %s while %s%s%s", op.tool, what, op.doing, advice+op.refused(text), lastWords(result))
	}
	switch {
	case outOfMemory.MatchString(text):
		return fail(runner.ReasonOutOfMemory, fmt.Sprintf("ran out of memory (%v)", exit), memoryAdvice)
	case diskFull.MatchString(text):
		return fail(runner.ReasonNoSpace, fmt.Sprintf("could not write its output (%v)", exit), ": most likely the disk is full; free some, or name another folder with --work.dir")
	case sig == syscall.SIGKILL:
		return fail(runner.ReasonOutOfMemory, "was killed by SIGKILL"+inWrapper(exit), ": most likely by the kernel's out-of-memory killer"+memoryAdvice)
	case sig == syscall.SIGILL:
		return fail(runner.ReasonCrash, "was killed by SIGILL"+inWrapper(exit),
			": it uses instructions that this CPU lacks; install a build for it, or name another libggml-cpu-*.so as GGML_BACKEND_PATH in engine.env")
	case sig != 0:
		return fail(runner.ReasonCrash, "was killed by "+process.SignalName(sig)+inWrapper(exit), hint(text))
	case quantizing && badModel.MatchString(text):
		return fail(runner.ReasonBadModel, fmt.Sprintf("cannot read the model (%v)", exit), hint(text))
	default:
		return fail(op.reason, fmt.Sprintf("failed (%v)", exit), hint(text))
	}
}

// memoryAdvice is what to do when a tool has no memory.
const memoryAdvice = "; it takes more memory, a smaller model, or fewer GPU layers (-ngl in engine.bench_args)"

// signalOf returns the signal that ended the process, or the child of a shell script that it
// is: shells exit with 128 + n then. 0 when it exited.
func signalOf(exit *process.ExitError) syscall.Signal {
	if exit.Signal != 0 {
		return exit.Signal
	}
	sig := syscall.Signal(exit.Code - 128)
	deadly := []syscall.Signal{
		syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE,
		syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGTERM, syscall.SIGSYS,
	}
	if slices.Contains(deadly, sig) {
		return sig
	}
	return 0
}

func inWrapper(exit *process.ExitError) string {
	if exit.Signal != 0 {
		return ""
	}
	return fmt.Sprintf(" (its wrapper says exit status %d)", exit.Code)
}

// hints are what to do about some of the things that the tools say.
var hints = []struct {
	said   *regexp.Regexp
	advice string
}{
	{regexp.MustCompile(`requantizing from type`), "the model is quantized already; models.allow_requantize: true does it again, at a loss"},
	{regexp.MustCompile(`requires an (imatrix|importance matrix)`), "name an importance matrix in engine.imatrix, or choose another format"},
	{regexp.MustCompile(`unknown model architecture`), "this build of llama.cpp does not know the model: install a newer one"},
	// Assertions of the tools whose cure is known.
	{regexp.MustCompile(`GGML_ASSERT\(!llama(_vocab_get)?_add_eos`), `the model ends every text with a token, which llama-perplexity does not evaluate: add ["--override-kv", "tokenizer.ggml.add_eos_token=bool:false"] to engine.evaluate_args`},
	{regexp.MustCompile(`GGML_ASSERT\(cplan->n_threads > 0\)`), "it was to use no thread: use 1 or more in engine.threads, and in -t of the arguments"},
	{regexp.MustCompile(`n_attention_wv is unexpected`), "this build of llama.cpp does not know how the model's layers differ: install a newer one"},
	{regexp.MustCompile(`invalid parameter for argument|unknown argument|invalid argument`), "look at engine.bench_args, engine.quantize_args and engine.evaluate_args"},
}

func hint(text string) string {
	for _, h := range hints {
		if h.said.MatchString(text) {
			return "; " + h.advice
		}
	}
	return ""
}

var (
	telling = regexp.MustCompile(`(?i)error|fail|assert|abort|exceed|insufficient|out of memory|unable|invalid|cannot|corrupt|disabled|denied|no space|not found|terminate called|requires`)
	noise   = regexp.MustCompile(`ggml_backend_load_best|load_backend:|llama_model_loader: - |print_info:|^warning: |gdbinit|auto-load|^\s*\[New LWP|^=+$`)
)

// lastWords returns the last lines that say something, of standard error or else of
// standard output, fit for the end of a message: "; it said: …". "" when there are none.
func lastWords(result process.Result) string {
	lines := meaningful(result.Tail)
	if len(lines) == 0 {
		end := result.Stdout[max(len(result.Stdout)-4096, 0):]
		lines = meaningful(strings.Split(string(end), "\n"))
	}
	if len(lines) == 0 {
		return ""
	}
	return "; it said: " + strings.Join(lines, " | ")
}

// meaningful picks at most four lines: those that sound like trouble, or else the last
// two.
func meaningful(lines []string) []string {
	var all, trouble []string
	for _, line := range lines {
		clean := clip(strings.TrimSpace(line), 240)
		if clean == "" || noise.MatchString(clean) {
			continue
		}
		all = append(all, clean)
		if telling.MatchString(clean) {
			trouble = append(trouble, clean)
		}
	}
	if len(trouble) > 0 {
		return trouble[max(len(trouble)-4, 0):]
	}
	return all[max(len(all)-2, 0):]
}

// clip makes foreign text fit for a message: valid UTF-8, no control characters, at
// most n bytes and an ellipsis.
func clip(text string, n int) string {
	cut := len(text) > n
	if cut {
		text = text[:n]
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if cut {
		text += "…"
	}
	return text
}
