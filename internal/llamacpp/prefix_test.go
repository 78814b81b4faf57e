package llamacpp_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// deepPlace is a place for rounds that begin deep in a context.
func deepPlace(t *testing.T, behaviour fakellama.Behaviour) (*place, runner.RoundJob) {
	t.Helper()
	behaviour.Factors = append(behaviour.Factors, fakellama.Factor{Phase: "prompt", By: 20})
	p, job := pairedPlace(t, behaviour)
	deep := verdict.AtDepth(4000)
	job.Phases = append(job.Phases, deep)
	job.Turns = append([]runner.Turn{
		{Phase: deep, Depth: 4000, Tokens: 16, Order: []int{0, 1}},
		{Phase: deep, Depth: 4000, Tokens: 16, Order: []int{1, 0}},
	}, job.Turns...)
	return p, job
}

// slots counts what servers were asked to save and to restore.
func (p *place) slots(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, call := range fakellama.Calls(t, p.tools) {
		if call.Step == "save" || call.Step == "restore" {
			counts[call.Step]++
		}
	}
	return counts
}

func TestDeepCacheIsComputedOnceInACycle(t *testing.T) {
	p, job := deepPlace(t, fakellama.Behaviour{})
	for n, want := range []map[string]int{{"save": 2}, {"save": 2, "restore": 2}, {"save": 2, "restore": 4}} {
		job.Number = n
		files, err := p.round(t.Context(), t, job)
		require.NoError(t, err)
		assert.Equal(t, want, p.slots(t), "after round %d", n)
		for _, file := range files {
			require.NoError(t, file.Err)
			assert.Len(t, file.Measurement.Bursts, len(job.Turns))
		}
	}
}

// A prompt that is measured at a depth has its buffers touched there, for which the cache is restored, too.
func TestDeepCacheOfTheFirstDepth(t *testing.T) {
	p, job := deepPlace(t, fakellama.Behaviour{})
	job.Depth = 3000
	for i := range job.Turns[2:] {
		job.Turns[2+i].Depth += 3000
	}
	for range 2 {
		files, err := p.round(t.Context(), t, job)
		require.NoError(t, err)
		for _, file := range files {
			require.NoError(t, file.Err)
		}
	}
	assert.Equal(t, map[string]int{"save": 2, "restore": 4}, p.slots(t))
}

// What is not measured in a round takes no time of it, and the servers' caches are as large as if it were.
func TestRoundsWithoutSomeOfThePhases(t *testing.T) {
	p, job := deepPlace(t, fakellama.Behaviour{})
	full, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	context := func(files []runner.FileRound) string {
		args := files[0].Measurement.Run.Args
		return args[slices.Index(args, "-c")+1]
	}
	for _, phase := range []verdict.Phase{verdict.Generation, verdict.Prompt} {
		some := job
		some.Phases, some.Turns = []verdict.Phase{phase}, slices.Clone(job.Turns)
		bursts := 0
		for i, turn := range some.Turns {
			if turn.Phase != phase {
				some.Turns[i].Order = nil
			} else {
				bursts++
			}
		}
		require.NotZero(t, bursts)
		files, err := p.round(t.Context(), t, some)
		require.NoError(t, err)
		for _, file := range files {
			require.NoError(t, file.Err)
			assert.Len(t, file.Measurement.Throughput, 1)
			assert.Len(t, file.Measurement.Bursts, bursts)
			for _, burst := range file.Measurement.Bursts {
				assert.Equal(t, job.Turns[burst.Turn].Phase, burst.Phase)
			}
		}
		assert.Equal(t, context(full), context(files))
	}
}

func TestRoundsWithoutADeepCacheSaveNothing(t *testing.T) {
	p, job := pairedPlace(t, fakellama.Behaviour{Factors: []fakellama.Factor{{Phase: "prompt", By: 20}}})
	for range 2 {
		_, err := p.round(t.Context(), t, job)
		require.NoError(t, err)
	}
	assert.Empty(t, p.slots(t))
}

// What cannot be saved or restored is computed in each round.
func TestDeepCacheThatIsNotSaved(t *testing.T) {
	for name, test := range map[string]struct {
		behaviour fakellama.Behaviour
		want      map[string]int // after two rounds
	}{
		"not saved":                 {fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-server", Step: "save", Do: fakellama.InternalError}}}, map[string]int{"save": 4}},
		"not restored":              {fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-server", Step: "restore", Do: fakellama.InternalError}}}, map[string]int{"save": 4, "restore": 2}},
		"sooner computed than read": {fakellama.Behaviour{Factors: []fakellama.Factor{{Phase: "prompt", By: 0.01}}}, map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			p, job := deepPlace(t, test.behaviour)
			for range 2 {
				files, err := p.round(t.Context(), t, job)
				require.NoError(t, err)
				for _, file := range files {
					require.NoError(t, file.Err)
					assert.Len(t, file.Measurement.Bursts, len(job.Turns))
				}
			}
			assert.Equal(t, test.want, p.slots(t))
		})
	}
}

// A file that a full disk has cut off is not read.
func TestSavedCacheThatIsCutOff(t *testing.T) {
	p, job := deepPlace(t, fakellama.Behaviour{})
	_, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	saved := filepath.Join(p.dir, "Q2_K.gguf.slot")
	require.NoError(t, os.Truncate(saved, 100))
	files, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	require.NoError(t, files[1].Err)
	assert.Equal(t, map[string]int{"save": 3, "restore": 2}, p.slots(t), "it is computed and saved again")
}

func TestServerThatDiesWhileItSaves(t *testing.T) {
	p, job := deepPlace(t, fakellama.Behaviour{Faults: []fakellama.Fault{{Tool: "llama-server", Step: "save", Format: "Q2_K", Do: fakellama.CloseConnection}}})
	files, err := p.round(t.Context(), t, job)
	require.NoError(t, err)
	require.NoError(t, files[0].Err)
	requireFailure(t, files[1].Err, runner.ReasonBenchmark)
}
