package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/quant-exporter/quant-exporter/runner"
)

// Progress shows what a cycle does: on a terminal a bar that is drawn over and over,
// elsewhere a plain line whenever the cycle comes to something new. Its methods may
// be called by several goroutines.
type Progress struct {
	w     io.Writer
	width int // of the terminal; 0 where there is none

	mu    sync.Mutex
	drawn bool
	last  string
}

// NewProgress shows progress on w; fd is its file descriptor, -1 for none.
func NewProgress(w io.Writer, fd int) *Progress {
	p := &Progress{w: w}
	if fd >= 0 && term.IsTerminal(fd) {
		p.width = 80
		if width, _, err := term.GetSize(fd); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

// Show replaces what was shown.
func (p *Progress) Show(now runner.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width > 0 {
		p.draw(now)
		return
	}
	if text := what(now); text != p.last {
		p.last = text
		fmt.Fprintf(p.w, "%s\n", text)
	}
}

// Clear takes the bar off the terminal, so that something else can be written.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// Write clears the bar before it passes a log line on.
func (p *Progress) Write(text []byte) (int, error) {
	p.Clear()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Write(text)
}

const barWidth = 24

func (p *Progress) draw(now runner.Progress) {
	full := int(now.Done * barWidth)
	full = min(max(full, 0), barWidth)
	text := "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] " + what(now)
	if now.Detail != "" && now.Operation == runner.OperationQuantize {
		text += ", " + now.Detail
	}
	if now.Left > 0 {
		text += ", " + remaining(now)
	}
	if runes := []rune(text); len(runes) >= p.width { // a wrapped line could not be drawn over
		text = string(runes[:p.width-1])
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	p.drawn = true
}

// remaining says that a measurement's time left is only that to the next look: how
// many looks it takes is not known before.
func remaining(now runner.Progress) string {
	text := "about " + max(now.Left.Round(time.Second), time.Second).String()
	if now.Operation == runner.OperationBenchmark {
		return text + " to the next look"
	}
	return text + " left"
}

// what names the work without the figures that change all the time.
func what(now runner.Progress) string {
	name := printable(now.Model)
	switch now.Operation {
	case runner.OperationQuantize:
		return fmt.Sprintf("%s: quantizing to %s", name, now.Target)
	case runner.OperationBenchmark:
		subject := "the original"
		switch {
		case now.Target != "":
			subject = now.Target
		case now.Stage == "":
			return fmt.Sprintf("%s: %s", name, now.Detail)
		}
		return fmt.Sprintf("%s: %s, measuring %s", name, now.Detail, subject)
	default:
		text := fmt.Sprintf("%s: %s", name, now.Operation)
		if now.Detail != "" {
			text += ", " + now.Detail
		}
		return text
	}
}
