// Package llamacpp is the engine on llama.cpp's command-line tools: llama-quantize
// makes the copies, llama-server or llama-bench measures them and llama-perplexity, where
// that is asked for, evaluates their quality. All knowledge of their flags and of
// what they print is here.
//
// # Builds
//
// Flags come and go between llama.cpp's builds, several a day. Which of the optional
// ones a binary has is read from its --help, once per binary: a file that was exchanged
// (another size or modification time) is asked again. JSON is read by field name, and
// fields that are not needed are ignored. Builds without -o jsonl, --progress, -d,
// --dry-run, --version or --list-devices work; so does ik_llama.cpp's llama-bench.
//
// # Measuring
//
// A round by the paired method has a fresh llama-server for each file, on UNIX sockets in
// the working directory, which are asked in turn. A prompt is as deep in the cache as the
// phases begin, and unlike any before from there on; a burst of generation cuts the cache to
// its depth, so that nothing is evaluated twice. The first token of an answer comes with the
// prompt and is not in the time that the server reports: one more is asked for than counts.
// What the scheduler kept from a server during a burst is known to the nanosecond on Linux,
// and a turn of which others took too much is repeated. Models whose cache cannot be cut,
// recurrent ones and those with a sliding window, are evaluated again for each burst, which
// takes longer and gives the same figures; the prompt phase at a depth cannot be measured of
// them in this way. Timings that cannot be (no number, other tokens than asked for, longer
// than the answer took) are a failure. When the round is over the servers are killed.
//
// By the other method one llama-bench process measures all phases of a file, one repetition
// each, after the tool's own warm-up. Throughput is tokens over the mean of samples_ns; avg_ns and
// stddev_ns are never read, because the sum of squares behind the latter overflows.
// A figure that cannot be (not above zero, longer than the time the tool was given,
// more than 10^12 tokens/s, for another number of tokens) is a failure.
//
// # Evaluating quality
//
// A first pass of llama-perplexity keeps what the original predicts (--kl-divergence-base)
// in a file, whose header and size say whether it is whole; a pass of each copy
// (--kl-divergence) is compared with it. Both exit with status 0 even if they fail: figures
// count only if every chunk's row and the summary are there. The rows are cumulative and have
// five decimals; the figures of single chunks are their differences.
//
// The tool logs from a thread that its end does not always wait for: of 60 runs of build
// 11669 one lost the end of its output. Such a run is repeated, once.
//
// # Failures
//
// Every way in which a tool fails has a reason of package runner's list:
//
//   - engine_missing: a tool is not found, not executable, cannot be started, or is
//     no such tool;
//   - out_of_memory: it says so, or it died of a SIGKILL that was not ours, which is
//     how the kernel's out-of-memory killer ends processes;
//   - crash: it died of any other signal, also in a wrapper script (exit status 128 + n);
//   - no_space: a tool could not write its output;
//   - host_limit: the system starts no more processes, or opens no more files;
//   - bad_model: llama-quantize could not read its input;
//   - timeout and canceled: we stopped it;
//   - quantize, evaluate and benchmark: anything else, among it a llama-bench that cannot load a
//     file: llama-quantize has read the original by then, so the copy or the tool is at
//     fault.
//
// # Environment of the tools
//
// They get the variables of ours that are on a list of names (see Environment), and those
// of [config.Engine.Env]. No variable reaches them by which they load or print something else
// than they are asked to: LLAMA_ARG_MODEL_URL would replace the model under test.
// GGML_NO_BACKTRACE is set unless it is there already, since otherwise a crash starts a
// debugger. Standard input is the null device.
package llamacpp
