package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Progress shows what a cycle does: on a terminal a bar that is drawn over and over,
// elsewhere a plain line whenever the cycle comes to another step (a target to quantize,
// a round to measure); for a wait there is none, as the log has one. Its methods may be
// called by several goroutines.
//
// What cannot be shown is lost without a word: a cycle does not end because nobody can
// look on.
type Progress struct {
	w     io.Writer
	width func() int // columns of the terminal; nil where there is none

	mu    sync.Mutex
	drawn bool
	last  string // step that has its line
}

// NewProgress shows progress on w; fd is its file descriptor, -1 for none.
func NewProgress(w io.Writer, fd int) *Progress {
	p := &Progress{w: w}
	if fd >= 0 && term.IsTerminal(fd) {
		p.width = func() int { // asked every time: windows are resized
			if width, _, err := term.GetSize(fd); err == nil && width > 0 {
				return width
			}
			return 80
		}
	}
	return p
}

// Show replaces what was shown.
func (p *Progress) Show(now runner.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width != nil {
		p.drawn = true
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", fit(bar(now), p.width()-1)) // the last column may wrap the line
		return
	}
	if text := step(now); text != p.last && now.Operation != runner.OperationWait {
		p.last = text
		_, _ = fmt.Fprintf(p.w, "%s%s\n", text, left(now))
	}
}

// Clear takes the bar off the terminal, so that something else can be written.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// Write clears the bar before it passes a log line on.
func (p *Progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return p.w.Write(text)
}

func (p *Progress) clear() {
	if p.drawn {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// bar is all that is known of the work.
func bar(now runner.Progress) string {
	const width = 24
	full := 0
	if now.Done > 0 { // not so for NaN
		full = int(min(now.Done, 1) * width)
	}
	line := "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "] " + step(now)
	switch {
	case now.Operation == runner.OperationQuantize && now.Detail != "":
		line += ", " + text.Name(now.Detail)
	case now.Stage == runner.StageOriginal:
		line += ", measuring the original"
	case now.Stage == runner.StageQuantized:
		line += ", measuring " + text.Name(now.Target)
	}
	return line + left(now)
}

// step names the work without what changes during it: it stays the same while a target
// is quantized, and throughout a round.
func step(now runner.Progress) string {
	model := text.Name(now.Model) + ": "
	switch {
	case now.Operation == runner.OperationQuantize:
		return model + "quantizing to " + text.Name(now.Target)
	case now.Operation == runner.OperationWait:
		return model + "waiting: " + text.Name(now.Detail)
	case now.Operation == runner.OperationPublish:
		return model + "publishing"
	case now.Operation == runner.OperationEvaluate && now.Target == "":
		return model + "evaluating the original"
	case now.Operation == runner.OperationEvaluate:
		return model + "evaluating " + text.Name(now.Target)
	case now.Operation == runner.OperationBenchmark && now.Detail != "":
		return model + text.Name(now.Detail)
	case now.Detail != "":
		return model + string(now.Operation) + ", " + text.Name(now.Detail)
	default:
		return model + string(now.Operation)
	}
}

// left is the time that the work is expected to take yet, "" when that is unknown. A
// measurement's is only that to the next look: how many looks it takes is not known
// before.
func left(now runner.Progress) string {
	if now.Left <= 0 {
		return ""
	}
	about := max(now.Left.Round(time.Second), time.Second).String()
	if now.Operation == runner.OperationBenchmark {
		return ", next look in about " + about
	}
	return ", about " + about + " left"
}

// fit cuts text to so many columns. Beyond ASCII every character counts as two columns,
// the most that any takes: a line that is cut a little early is still drawn over, and one
// that wraps is not.
func fit(text string, columns int) string {
	for i, r := range text {
		if r < utf8.RuneSelf {
			columns--
		} else {
			columns -= 2
		}
		if columns < 0 {
			return text[:i]
		}
	}
	return text
}
