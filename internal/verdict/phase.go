package verdict

// Phase is what a benchmark exercises.
type Phase string

// The phases; Generation is the primary one.
const (
	Generation Phase = "generation" // tokens one after the other, batch size 1
	Prompt     Phase = "prompt"     // all tokens of a prompt in one batch
)

// GateQuality is the gate that is not a phase: it names, in Verdict.Gate, that the copy's
// predictions are too far from the original's. It is never one of Config.Phases, and
// Decide does not give it.
const GateQuality Phase = "quality"
