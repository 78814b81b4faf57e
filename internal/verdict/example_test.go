package verdict_test

import (
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Rounds are measured until the verdict no longer asks for more.
func Example() {
	config := verdict.Config{Threshold: 0.12, Phases: []verdict.Phase{verdict.Generation}, MinRounds: 3, MaxRounds: 56, Alpha: 0.05}

	measure := func(i int) verdict.Round { // stands for two runs of a benchmark
		original := []float64{100, 103, 98, 101, 99, 102}[i]
		quantized := []float64{80, 82, 80, 81, 78, 82}[i]
		return verdict.Round{verdict.Generation: {Original: original, Quantized: quantized}}
	}

	var rounds []verdict.Round
	v := verdict.Decide(config, rounds)
	for v.Outcome == verdict.GoOn {
		rounds = append(rounds, measure(len(rounds)))
		v = verdict.Decide(config, rounds)
	}

	worst := v.Worst()
	fmt.Printf("%s by %s after %d rounds\n", v.Outcome, v.Gate, v.Rounds)
	fmt.Printf("drop %.1f %%, between %.1f and %.1f %% with %.0f %% confidence\n",
		100*worst.Drop, 100**worst.Lower, 100**worst.Upper, 100*v.Confidence)
	// Output:
	// rejected by generation after 4 rounds
	// drop 19.6 %, between 16.0 and 23.1 % with 90 % confidence
}
