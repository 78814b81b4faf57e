package runner

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/host"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// RoundJob names one round: files that are measured within seconds or minutes of each
// other, to be compared.
type RoundJob struct {
	Dir string
	// Files are the base names, in Dir, of the (first) files: the original comes first.
	Files  []string
	Method config.Method // paired or process
	// Order is that in which the files are measured, or their servers started, as indices
	// of Files.
	Order []int
	// CPUs are the logical CPUs that every file is measured on; nil leaves the choice to the
	// system.
	CPUs []int
	// Observe begins to watch the load of the host; see Host.
	Observe func() func(ours time.Duration, threads int) *host.Load

	Phases           []verdict.Phase // that are measured
	PromptTokens     int             // tokens of the prompt phase, processed in one batch
	GenerationTokens int             // tokens of the generation phase, one at a time
	Depth            int             // tokens in the KV cache before either phase, further ones aside
	// Parameters are what each of Files has; nil where that is not known.
	Parameters []Parameters

	// The rest is for the paired method.

	// Turns are what is measured of each file, in this order. Caches are as large as all of them
	// need, also those that are not measured, so that the rounds of a cycle are alike.
	Turns []Turn
	// Vocabulary is the number of tokens that the model knows. Seed chooses those that all files are
	// given in the first prompt of each round of a cycle, which has the same Seed and Dir, so that an
	// engine need not compute it in each; Seed and Number those of further prompts.
	Vocabulary int64
	Seed       uint64
	Number     int // of the round
	// MaxDisturbance is the share of a burst's time, 0 to 1, that others may take from it
	// before its turn is repeated; 1 repeats nothing.
	MaxDisturbance float64
}

// Parameters are the elements of a file's tensors.
type Parameters struct {
	All  int64
	Tied int64 // of the token embedding, where that is the output as well; else 0
}

// Turn is a part of a paired round: each file is measured once, one after the other, under
// the same conditions.
type Turn struct {
	Phase   verdict.Phase
	Depth   int   // tokens in the KV cache before it, of each sequence
	Tokens  int   // that are timed, of each sequence
	Order   []int // of the files, as indices of RoundJob.Files; none where the phase is not measured in this round
	Clients int   // sequences that are generated at once; 0 is one
}

// FileRound is what a round found of one file.
type FileRound struct {
	Sample
	// Err says why there is no figure of the file. Without one of the original nothing can
	// be said of any file, so that a round may end at once when it fails.
	Err error
}

// Burst is a part of a round: so many tokens of one file. Bursts of one turn, one of each
// file, are compared with each other.
type Burst struct {
	Turn   int           `json:"turn"` // from 0
	Phase  verdict.Phase `json:"phase"`
	Depth  int           `json:"depth"`  // tokens in the KV cache before it
	Tokens int           `json:"tokens"` // of all sequences together
	Time   time.Duration `json:"ns"`     // in which the tool ran
	// Clients are the sequences that were generated at once; 0 is one.
	Clients int `json:"clients,omitempty"`
	// Slices are the parts in which it was measured, while other files were measured in
	// between; 0 is one. Time is the sum of them.
	Slices int `json:"slices,omitempty"`
	// Taken is the share, 0 to 1, that others took of the time from the request to the answer,
	// as far as the system reports it. Waited is the share of the burst's own time in which the
	// tool waited for a CPU; Time is without it.
	Taken  float64 `json:"taken_ratio,omitempty"`
	Waited float64 `json:"waited_ratio,omitempty"`
	// Repeated says that others took too much during the turn, which was measured again:
	// this burst counts nowhere.
	Repeated bool `json:"repeated,omitempty"`
}

// burstTokens is how many tokens of generation a burst has: enough for the clock, few enough
// that what disturbs the host falls on all files alike.
const burstTokens = 32

// burstsAtDepth are those that a round has of each further depth, of opposite order by twos. They share
// the tokens of two bursts, because a median of eight shrugs off a disturbed one. They must not be
// shorter: the first tokens read a deep cache from memory, which is equally slow for all files, and so are the
// first of each slice.
const burstsAtDepth = leastBursts

// planTurns returns the turns of a paired round of so many files: generation at further
// depths, prompts, generation, generation with further numbers of clients. There are as many prompts and
// bursts as the amounts say, or a few more. n counts the rounds of the cycle, and with seed chooses the
// order: two turns of a phase belong together, and have opposite order. A prompt takes as long as many
// bursts, and so does a burst of several clients: a round has one of them, and the next round has another
// one, of opposite order, or both have two.
func planTurns(b config.Benchmark, files int, of amounts, seed uint64, n int) []Turn {
	var turns []Turn
	opposite := func(order []int) []int {
		order = slices.Clone(order)
		slices.Reverse(order)
		return order
	}
	coins := rand.New(rand.NewPCG(seed, ^uint64(n)))
	ofTwoRounds := rand.New(rand.NewPCG(seed, uint64(n/2)))
	one := func(turn Turn) {
		turn.Order = ofTwoRounds.Perm(files)
		if n%2 == 1 {
			turn.Order = opposite(turn.Order)
		}
		turns = append(turns, turn)
	}
	tokens := min(burstTokens, max(b.GenerationTokens/leastBursts, 1))
	// A deep cache is computed once, and cut down to the depths that follow. One that is cut
	// between two bursts costs nothing, so that all of a phase begin at its depth.
	for _, depth := range slices.Backward(b.Depth.Further()) {
		turn := Turn{Phase: verdict.AtDepth(depth), Depth: depth, Tokens: max(2*tokens/burstsAtDepth, 1)}
		for range burstsAtDepth / 2 {
			turn.Order = coins.Perm(files)
			turns = append(turns, turn)
			turn.Order = opposite(turn.Order)
			turns = append(turns, turn)
		}
	}
	if slices.Contains(b.Phases, verdict.Prompt) {
		one(Turn{Phase: verdict.Prompt, Depth: b.Depth.First(), Tokens: b.PromptTokens})
		for i := 1; i < of.prompts; i++ {
			turn := turns[len(turns)-1]
			turn.Order = opposite(turn.Order)
			turns = append(turns, turn)
		}
	}
	if slices.Contains(b.Phases, verdict.Generation) {
		for i, start := range burstStarts(b.GenerationTokens, tokens, b.Rounds.Min, max(of.bursts, leastBursts), n) {
			order := coins.Perm(files)
			if i%2 == 1 { // the second of two
				order = opposite(turns[len(turns)-1].Order)
			}
			// A cache without a single token predicts nothing.
			turns = append(turns, Turn{Phase: verdict.Generation, Depth: max(b.Depth.First()+start, 1), Tokens: tokens, Order: order})
		}
	}
	// Last, because they fill the caches of all sequences. They begin where conversations do:
	// to walk down the depths, the cache of each client would have to be computed in every
	// round, which takes longer than all else.
	for _, clients := range b.Clients.Further() {
		one(Turn{Phase: verdict.AtOnce(clients), Depth: max(b.Depth.First(), 1), Tokens: tokens, Clients: clients})
	}
	return turns
}

// burstStarts returns where in a generation of all tokens the bursts of the n-th round begin. Bursts
// are dealt to the rounds in fours: two of them begin as far after the beginning of the generation as
// the other two end before its end. So every round has the same middle. The rounds that a verdict
// takes at least cover the whole generation. A round that needs more bursts than its own fours have takes
// fours of other rounds, too, until the generation has no more. Bursts walk down, because what is cut off
// the end of a cache costs nothing.
func burstStarts(all, tokens, rounds, bursts, n int) []int {
	rounds = max(rounds, 1)
	fours := max((all+4*tokens-1)/(4*tokens), rounds*leastBursts/4)
	var starts []int
	for dealt := range rounds { // the round's own, then the fours of other rounds
		for four := (n + dealt) % rounds; four < fours; four += rounds {
			if (dealt > 0 || n >= rounds) && len(starts) >= bursts {
				break
			}
			for _, i := range []int{2 * four, 2*four + 1, 4*fours - 2*four - 2, 4*fours - 2*four - 1} {
				starts = append(starts, int(math.Round(float64(all-tokens)*float64(i)/float64(4*fours-1))))
			}
		}
	}
	slices.Sort(starts)
	slices.Reverse(starts)
	return starts
}

// ContextOf returns the number of tokens that one sequence has at most during the turns.
func ContextOf(turns []Turn) int {
	tokens := 0
	for _, t := range turns {
		tokens = max(tokens, t.Depth+t.Tokens)
	}
	return tokens
}

// CellsOf returns the number of tokens that a cache has to hold during the turns, which all
// sequences share.
func CellsOf(turns []Turn) int {
	tokens := 0
	for _, t := range turns {
		tokens = max(tokens, (t.Depth+t.Tokens)*max(t.Clients, 1))
	}
	return tokens
}

// CacheTokens returns the number of tokens that a cache has to hold in the rounds of a benchmark.
func CacheTokens(b config.Benchmark) int { return CellsOf(planTurns(b, 2, amounts{}, 0, 0)) }

// ClientsOf returns the number of sequences that the turns have at once at most.
func ClientsOf(turns []Turn) int {
	clients := 1
	for _, t := range turns {
		clients = max(clients, t.Clients)
	}
	return clients
}

// Throughputs returns a phase's tokens over their time, in tokens per second, for every phase
// in which bursts counted: what Measurement has.
func Throughputs(bursts []Burst) map[verdict.Phase]float64 {
	tokens, spent := map[verdict.Phase]int{}, map[verdict.Phase]time.Duration{}
	for _, b := range bursts {
		if !b.Repeated {
			tokens[b.Phase] += b.Tokens
			spent[b.Phase] += b.Time
		}
	}
	all := map[verdict.Phase]float64{}
	for phase, time := range spent {
		if time > 0 {
			all[phase] = float64(tokens[phase]) / time.Seconds()
		}
	}
	return all
}
