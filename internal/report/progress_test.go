package report

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/runner"
)

// terminal is a Progress on a terminal of so many columns.
func terminal(out *bytes.Buffer, columns int) *Progress {
	return &Progress{w: out, width: func() int { return columns }}
}

func measuring(round int, target string, done float64, remaining time.Duration) runner.Progress {
	stage := runner.StageQuantized
	if target == "" {
		stage = runner.StageOriginal
	}
	return runner.Progress{
		Model: "llama", Operation: runner.OperationBenchmark, Target: target, Stage: stage,
		Done: done, Detail: fmt.Sprintf("round %d", round), Left: remaining,
	}
}

// cycle tells of a ladder of two.
func cycle(show func(runner.Progress)) {
	for done := range 3 {
		show(runner.Progress{Model: "llama", Operation: runner.OperationIsolate, Detail: "copying the model", Done: float64(done) / 3})
	}
	for _, target := range []string{"Q4_K_M", "Q2_K"} {
		for tensor := range 39 {
			show(runner.Progress{Model: "llama", Operation: runner.OperationQuantize, Target: target, Done: float64(tensor) / 39, Detail: fmt.Sprintf("tensor %d/39", tensor)})
		}
	}
	show(runner.Progress{Model: "llama", Operation: runner.OperationBenchmark, Detail: "waiting for the host to be idle"})
	for round := 1; round <= 3; round++ {
		for _, target := range []string{"", "Q4_K_M", "Q2_K"} {
			for part := range 5 {
				show(measuring(round, target, float64(part)/5, time.Duration(round-1)*(10*time.Second-time.Duration(part)*time.Second)))
			}
		}
	}
}

func TestPlainLinesAreOneAStep(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, -1)
	cycle(p.Show)
	p.Clear()
	assert.Equal(t, `llama: copying the model
llama: quantizing to Q4_K_M
llama: quantizing to Q2_K
llama: waiting for the host to be idle
llama: round 1
llama: round 2, next check in about 10 s
llama: round 3, next check in about 20 s
`, out.String())
}

// On a terminal only: elsewhere the log's line about it stays, and says it all.
func TestWaitingIsOnTheBarOnly(t *testing.T) {
	waits := runner.Progress{Model: "llama", Operation: runner.OperationWait, Detail: "another measurement on this host: pid 7"}
	var out bytes.Buffer
	NewProgress(&out, -1).Show(waits)
	assert.Empty(t, out.String())

	terminal(&out, 200).Show(waits)
	assert.Contains(t, out.String(), "] llama: waiting for another measurement on this host: pid 7")
}

func TestBar(t *testing.T) {
	for want, now := range map[string]runner.Progress{
		"[............] llama: quantizing to Q2_K, tensor 0/39":                          {Model: "llama", Operation: runner.OperationQuantize, Target: "Q2_K", Detail: "tensor 0/39"},
		"[######......] llama: quantizing to Q2_K, tensor 20/39, about 2 s left":         {Model: "llama", Operation: runner.OperationQuantize, Target: "Q2_K", Detail: "tensor 20/39", Done: 0.5, Left: 2600 * time.Millisecond},
		"[###.........] llama: round 2, measuring the original, next check in about 1 s": measuring(2, "", 0.25, time.Millisecond),
		"[############] llama: round 2, measuring Q2_K, next check in about 90 s":        measuring(2, "Q2_K", 1, 90*time.Second),
		"[############] llama: round 3, measuring Q2_K":                                  measuring(3, "Q2_K", math.Inf(1), 0),
		"[............] llama: round 4, measuring Q2_K":                                  measuring(4, "Q2_K", math.NaN(), -time.Second),
		"[............] llama: preparing a working copy":                                 {Model: "llama", Operation: runner.OperationIsolate, Done: -1},
	} {
		wantBar, wantText, _ := strings.Cut(want, "]")
		gotBar, gotText, _ := strings.Cut(bar(now), "]")
		assert.Equal(t, 2*strings.Count(wantBar, "#"), strings.Count(gotBar, "#"), "the bar is twice as long as here: %s", want)
		assert.Len(t, gotBar, 1+24)
		assert.Equal(t, wantText, gotText)
	}
}

func TestTheBarIsDrawnOverItself(t *testing.T) {
	var out bytes.Buffer
	p := terminal(&out, 200)
	cycle(p.Show)
	for drawn := range strings.SplitSeq(strings.TrimPrefix(out.String(), "\r"), "\r") {
		require.True(t, strings.HasPrefix(drawn, "\x1b[K["), "%q", drawn)
		require.NotContains(t, drawn, "\n")
	}
}

func TestTheBarIsNeverWiderThanTheTerminal(t *testing.T) {
	for _, model := range []string{strings.Repeat("m", 300), strings.Repeat("日本", 100), "🦙" + strings.Repeat("ｗ", 90), "\x1b[2J" + strings.Repeat("\n", 100)} {
		for columns := range 130 {
			var out bytes.Buffer
			now := measuring(1, "Q2_K", 0.5, time.Minute)
			now.Model = model
			terminal(&out, columns).Show(now)
			shown, found := strings.CutPrefix(out.String(), "\r\x1b[K")
			require.True(t, found)
			wide := 0
			for _, r := range shown {
				require.True(t, strconv.IsPrint(r), "%q", r)
				if wide++; r >= 0x1100 { // where East Asian wide characters begin
					wide++
				}
			}
			require.LessOrEqual(t, wide, max(columns-1, 0), shown)
		}
	}
}

func TestTheBarIsClearedBeforeOtherOutput(t *testing.T) {
	var out bytes.Buffer
	p := terminal(&out, 80)
	n, err := p.Write([]byte("log 1\n"))
	require.NoError(t, err)
	assert.Equal(t, 6, n)
	assert.Equal(t, "log 1\n", out.String(), "nothing to clear yet")

	out.Reset()
	p.Show(measuring(1, "", 0, 0))
	drawn := out.String()
	_, err = p.Write([]byte("log 2\n"))
	require.NoError(t, err)
	assert.Equal(t, drawn+"\r\x1b[Klog 2\n", out.String())

	out.Reset()
	p.Clear()
	assert.Empty(t, out.String(), "cleared already")
	p.Show(measuring(1, "", 0, 0))
	p.Clear()
	assert.Equal(t, drawn+"\r\x1b[K", out.String())
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, assert.AnError }

func TestLogLinesThatAreLostAreAnError(t *testing.T) {
	_, err := NewProgress(broken{}, -1).Write([]byte("log\n"))
	assert.ErrorIs(t, err, assert.AnError)
}

// For the race detector; and no log line ends up in a bar.
func TestProgressIsSafeForConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	p := terminal(&out, 80)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { cycle(p.Show) })
		group.Go(func() {
			for range 50 {
				_, _ = p.Write([]byte("<log>\n"))
				p.Clear()
			}
		})
	}
	group.Wait()
	p.Clear()
	for line := range strings.SplitAfterSeq(out.String(), "\n") {
		if before, _, found := strings.Cut(line, "<log>"); found {
			assert.True(t, before == "" || strings.HasSuffix(before, "\r\x1b[K"), "%q", line)
		}
	}
	assert.Equal(t, 200, strings.Count(out.String(), "<log>\n"))
}
