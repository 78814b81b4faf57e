package verdict

import "math/rand/v2"

// QuantizedFirst reports whether round i of a cycle, counted from 0, measures the quantized
// models before the original. Rounds come in twos of opposite order, A B then B A or B A
// then A B; a coin decides which, the same for the same seed.
//
// The opposite order cancels what drifts: under −1 % a run the fifth target of a ladder
// would be falsely kept or rejected 12 % of the time each if every round had a coin of
// its own, and never is this way. The coins are against noise that lasts for about a run,
// such as a busy neighbour's: strictly in turn (A B, B A, A B, …) it makes all
// consecutive log ratios resemble each other, and a t test believes too much. With
// correlation 0.5 from run to run it errs about a tenth more often in turn than with
// coins (the simulation of the tests has both side by side).
func QuantizedFirst(seed uint64, i int) bool {
	coin := rand.NewPCG(seed, uint64(i/2)).Uint64()>>63 == 1
	odd := i%2 == 1
	return coin != odd
}
