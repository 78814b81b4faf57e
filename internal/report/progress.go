package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
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
// What cannot be shown is lost silently: a cycle must not end because nobody can watch it.
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
	if step := now.Step(); now.Model+step != p.last && now.Operation != runner.OperationWait {
		p.last = now.Model + step
		_, _ = fmt.Fprintln(p.w, described(now, step))
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

// bar returns all that is known of the work.
func bar(now runner.Progress) string {
	const width = 24
	full := 0
	if now.Done > 0 { // not so for NaN
		full = int(min(now.Done, 1) * width)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "] " + described(now, now.Text())
}

// described returns what the cycle of a model does, with the time that it is expected to take yet.
func described(now runner.Progress, what string) string {
	line := text.Name(now.Model) + ": " + what
	if remaining := now.Remaining(); remaining != "" {
		line += ", " + remaining
	}
	return line
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
