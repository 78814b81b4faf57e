package llamacpp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// serverTool measures files in pairs; without it each is measured by a process of its own.
const serverTool = "llama-server"

// serverAbility is where llama-server is and how it is called.
type serverAbility struct {
	binary
	unusable   string   // why it cannot measure pairs; "" when it can
	always     []string // options of every call
	translated []string // engine.bench_args, as llama-server spells them
	unifies    bool     // several clients can share one cache
	saves      bool     // it can save what its cache holds to a file
}

// Options of every call. A build that does not name one in its help is called without it,
// but for those it needs.
var serverOptions = []struct {
	option string
	value  string
	needed bool
}{
	{option: "--poll", value: "0", needed: true}, // one that waits must not use the CPU
	{option: "--cache-ram", value: "0"},          // prompts would go there while they are timed
	{option: "--ctx-checkpoints", value: "0"},    // likewise
	{option: "-fit", value: "off"},               // what does not fit must not go elsewhere without a word
	{option: "--offline"},
	{option: "--no-slots"},
	{option: "--no-webui"},
	{option: "--no-jinja"},
}

// traceLevel is the verbosity at which some builds print where they put a file.
const traceLevel = "- 4: trace"

// isOption reports whether an argument is an option; -1 is a value.
func isOption(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && (arg[1] < '0' || arg[1] > '9')
}

// unknownOption returns the first option that a tool's help does not name; "" if there is none.
func unknownOption(args []string, help string) string {
	for _, arg := range args {
		if isOption(arg) && !hasFlag(help, canonical(arg)) {
			return arg
		}
	}
	return ""
}

// newServerAbility reads the help: engine.bench_args, which llama-bench knows, have to suit
// llama-server, too.
func newServerAbility(found binary, help string, benchArgs []string) serverAbility {
	s := serverAbility{binary: found, unifies: hasFlag(help, "--kv-unified"), saves: hasFlag(help, saveOption)}
	// UNIX sockets came with b4945, in March 2025; the reuse of a cache and the timings are older.
	if !strings.Contains(help, ".sock") {
		s.unusable = fmt.Sprintf("%s is too old: it does not listen on UNIX sockets; install a newer llama.cpp", found.path)
		return s
	}
	for _, o := range serverOptions {
		switch {
		case hasFlag(help, o.option) && o.value != "":
			s.always = append(s.always, o.option, o.value)
		case hasFlag(help, o.option):
			s.always = append(s.always, o.option)
		case o.needed:
			s.unusable = fmt.Sprintf("%s has no %s: install another build", found.path, o.option)
		}
	}
	if strings.Contains(help, traceLevel) {
		s.always = append(s.always, "-lv", "4")
	}
	var err error
	if s.translated, err = serverArgs(benchArgs, help); err != nil {
		s.unusable = fmt.Sprintf("engine.bench_args: %v", err)
	}
	return s
}

// serverArgs spells llama-bench's arguments as llama-server does. One that llama-server does not
// know is an error.
func serverArgs(args []string, help string) ([]string, error) {
	var all []string
	spellings := serverSpellings(help)
	for i := 0; i < len(args); i++ {
		option := canonical(args[i])
		t, special := spellings[option]
		switch {
		case !isOption(option):
			return nil, fmt.Errorf("%q is not an option", args[i])
		case !special && !hasFlag(help, option):
			return nil, fmt.Errorf("llama-server does not know %s, which is for llama-bench", args[i])
		case !special:
			all = append(all, option)
			if i+1 < len(args) && !isOption(args[i+1]) {
				i++
				all = append(all, args[i])
			}
			continue
		}
		value := ""
		if !t.bare {
			if i++; i == len(args) {
				return nil, fmt.Errorf("%s has no value", option)
			}
			value = args[i]
		}
		spelled, err := t.spell(value)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", option, value, err)
		}
		if len(spelled) > 0 && !hasFlag(help, spelled[0]) {
			return nil, fmt.Errorf("llama-server does not know %s, which stands for %s of llama-bench", spelled[0], option)
		}
		all = append(all, spelled...)
	}
	return all, nil
}

// spelling is how an option of llama-bench is said to llama-server: nothing where that is
// what it does anyway.
type spelling struct {
	bare  bool // the option takes no value
	spell func(value string) ([]string, error)
}

// serverSpellings returns the options that the two tools spell differently. Source: the help of
// both, of build 11669, and common/arg.cpp and tools/llama-bench/llama-bench.cpp.
func serverSpellings(help string) map[string]spelling {
	all := map[string]spelling{}
	add := func(s spelling, names ...string) {
		for _, name := range names {
			all[name] = s
		}
	}
	add(spelling{spell: func(v string) ([]string, error) { return []string{"--flash-attn", onOff(v)}, nil }}, "-fa", "--flash-attn")
	add(onlyIf("1", "--no-kv-offload"), "-nkvo", "--no-kv-offload")
	mmap := onlyIf("0", "--no-mmap")
	if !hasFlag(help, "--no-mmap") { // as newer builds say it
		mmap = onlyIf("0", "--load-mode", "none")
	}
	add(mmap, "-mmp", "--mmap")
	add(onlyIf("1", "--no-op-offload"), "-nopo", "--no-op-offload")
	add(onlyIf("1", "--no-host"), "--no-host")
	add(onlyIf("0", "--no-repack"), "--repack")
	add(separated("/", "--device"), "-dev", "--device")
	add(separated("/", "--tensor-split"), "-ts", "--tensor-split")
	add(separated(";", "--override-tensor"), "-ot", "--override-tensor")
	add(spelling{spell: nothing}, "--poll", "--delay") // the exporter sets the first, and the second has no meaning here
	add(spelling{bare: true, spell: nothing}, "-v", "--verbose", "--progress", "--no-warmup")
	return all
}

func nothing(string) ([]string, error) { return nil, nil }

func onOff(value string) string {
	switch value {
	case "1":
		return "on"
	case "0":
		return "off"
	default: // "on", "off", "auto", or something that the server will complain of
		return value
	}
}

// onlyIf returns an option that llama-bench gives 0 or 1, and llama-server has or has not.
func onlyIf(when string, option ...string) spelling {
	return spelling{spell: func(value string) ([]string, error) {
		switch {
		case value == when:
			return option, nil
		case slices.Contains([]string{"0", "1"}, value):
			return nil, nil
		default:
			return nil, errors.New("use 0 or 1")
		}
	}}
}

// separated returns a list whose parts llama-server has commas between.
func separated(by, option string) spelling {
	return spelling{spell: func(value string) ([]string, error) {
		return []string{option, strings.ReplaceAll(value, by, ",")}, nil
	}}
}
