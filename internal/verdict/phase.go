package verdict

// Phase is what a benchmark exercises.
type Phase string

// The phases; Generation is the primary one.
const (
	Generation Phase = "generation" // tokens one after the other, batch size 1
	Prompt     Phase = "prompt"     // all tokens of a prompt in one batch
)
