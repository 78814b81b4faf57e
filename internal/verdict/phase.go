package verdict

import (
	"regexp"
	"strconv"
)

// Phase is what a benchmark exercises: one of the two below, or generation under another
// condition, as AtOnce and AtDepth name it.
type Phase string

// The phases of every benchmark; Generation is the primary one.
const (
	Generation Phase = "generation" // tokens one after the other, batch size 1
	Prompt     Phase = "prompt"     // all tokens of a prompt in one batch
)

// AtOnce returns the phase in which so many sequences are generated at once, such as
// "generation@8". Its throughput counts the tokens of all of them. One sequence is Generation itself.
func AtOnce(clients int) Phase {
	if clients <= 1 {
		return Generation
	}
	return Generation + "@" + Phase(strconv.Itoa(clients))
}

// AtDepth returns the phase in which one sequence is generated after so many tokens of its
// own, such as "generation+4096".
func AtDepth(tokens int) Phase { return Generation + "+" + Phase(strconv.Itoa(tokens)) }

var further = regexp.MustCompile(`^generation([@+])([1-9][0-9]{0,8})$`)

// Further returns what sets a phase of AtOnce or AtDepth apart from Generation: its number of
// sequences, or its depth in tokens; the other one is 0. ok is false for any other phase.
func (p Phase) Further() (clients, depth int, ok bool) {
	match := further.FindStringSubmatch(string(p))
	if match == nil {
		return 0, 0, false
	}
	n, _ := strconv.Atoi(match[2]) // nine digits
	if match[1] == "@" {
		return n, 0, n > 1
	}
	return 0, n, true
}

// known reports whether there is such a phase.
func (p Phase) known() bool {
	_, _, ok := p.Further()
	return ok || p == Generation || p == Prompt
}

// GateQuality is the gate that is not a phase: it names, in Verdict.Gate, that the copy's
// predictions are too far from the original's. It is never one of Config.Phases, and
// Decide does not give it.
const GateQuality Phase = "quality"

// GateMemory is likewise the gate of a copy that takes more memory than it may.
const GateMemory Phase = "memory"
