package process

import (
	"bytes"
	"os"
	"sync"
	"time"
)

const (
	lineLimit = 4 << 10 // bytes of a line that are kept
	tailLines = 60      // lines of standard error that are kept
)

// output owns both pipes of a child and the goroutines that read them.
type output struct {
	stdout, stderr pipe
	readers        sync.WaitGroup
	done           chan struct{} // closed when both readers are

	buffer  limitedBuffer
	flooded chan struct{} // closed when buffer has overflowed
	tail    tail
	lines   lineSplitter
}

type pipe struct{ reader, writer *os.File }

func newOutput(spec Spec) (*output, error) {
	o := &output{done: make(chan struct{}), flooded: make(chan struct{})}
	var err error
	if o.stdout.reader, o.stdout.writer, err = os.Pipe(); err != nil {
		return nil, err
	}
	if o.stderr.reader, o.stderr.writer, err = os.Pipe(); err != nil {
		_ = o.stdout.reader.Close()
		_ = o.stdout.writer.Close()
		return nil, err
	}
	o.buffer.limit = spec.StdoutLimit
	o.lines.emit = func(line string) {
		o.tail.add(line)
		if spec.OnStderr != nil {
			spec.OnStderr(line)
		}
	}
	return o, nil
}

// abandon closes everything: there is no child.
func (o *output) abandon() {
	for _, file := range []*os.File{o.stdout.reader, o.stdout.writer, o.stderr.reader, o.stderr.writer} {
		_ = file.Close()
	}
}

// start reads, now that the child holds the writing ends.
func (o *output) start() {
	_ = o.stdout.writer.Close()
	_ = o.stderr.writer.Close()
	o.readers.Go(func() {
		o.read(o.stdout.reader, func(chunk []byte) {
			before := o.buffer.overflowed
			o.buffer.add(chunk)
			if o.buffer.overflowed && !before {
				close(o.flooded)
			}
		})
	})
	o.readers.Go(func() {
		o.read(o.stderr.reader, o.lines.add)
		o.lines.flush()
	})
	go func() {
		o.readers.Wait()
		close(o.done)
	}()
}

// read hands on what comes until all writing ends are closed or finish gives up. It goes on
// after a flood, so that the child is not stuck in a write when it should end.
func (o *output) read(file *os.File, add func([]byte)) {
	chunk := make([]byte, 32<<10)
	for {
		n, err := file.Read(chunk)
		add(chunk[:n])
		if err != nil { // io.EOF, or the deadline that finish sets
			return
		}
	}
}

// finish waits until both pipes are closed; after Grace it stops reading, because then
// whoever still holds them has left the group. No callback runs after it.
func (o *output) finish() {
	timer := time.NewTimer(Grace)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
		_ = o.stdout.reader.SetReadDeadline(time.Now())
		_ = o.stderr.reader.SetReadDeadline(time.Now())
		<-o.done
	}
	_ = o.stdout.reader.Close()
	_ = o.stderr.reader.Close()
}

func (o *output) kept() []byte     { return o.buffer.data }
func (o *output) overflowed() bool { return o.buffer.overflowed }

// limitedBuffer keeps the first limit bytes.
type limitedBuffer struct {
	limit      int
	data       []byte
	overflowed bool
}

func (b *limitedBuffer) add(chunk []byte) {
	room := b.limit - len(b.data)
	if len(chunk) > room {
		chunk, b.overflowed = chunk[:room], true
	}
	b.data = append(b.data, chunk...)
}

// lineSplitter cuts a stream into lines at line feeds and carriage returns, leaves out
// empty ones and keeps no more than lineLimit bytes of each.
type lineSplitter struct {
	emit    func(string)
	pending []byte
}

func (s *lineSplitter) add(chunk []byte) {
	for len(chunk) > 0 {
		end := bytes.IndexAny(chunk, "\r\n")
		part := chunk
		if end >= 0 {
			part = chunk[:end]
		}
		s.pending = append(s.pending, part[:min(len(part), lineLimit-len(s.pending))]...)
		if end < 0 {
			return
		}
		s.flush()
		chunk = chunk[end+1:]
	}
}

// flush ends the pending line.
func (s *lineSplitter) flush() {
	if len(s.pending) > 0 {
		s.emit(string(s.pending))
	}
	s.pending = s.pending[:0]
}

// tail keeps the last lines that were added.
type tail struct {
	ring  [tailLines]string
	count int
}

func (t *tail) add(line string) {
	t.ring[t.count%tailLines] = line
	t.count++
}

func (t *tail) lines() []string {
	if t.count <= tailLines {
		return append([]string(nil), t.ring[:t.count]...)
	}
	oldest := t.count % tailLines
	return append(append([]string(nil), t.ring[oldest:]...), t.ring[:oldest]...)
}
