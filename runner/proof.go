package runner

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// proved reads the header of a copy, and fails unless it is what a tool that works leaves: a
// regular file of its own, of which every byte belongs to a tensor or the header, that says
// to be of the pair's format and has the tensors of the model.
func (c *cycle) proved(p *pair, path string) (*gguf.Header, int64, error) {
	const said = "the tool said that it succeeded and left "
	info, err := os.Lstat(path)
	if err != nil {
		return nil, 0, Failf(ReasonQuantize, said+"no file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, Failf(ReasonQuantize, said+"not a regular file: its mode is %s", info.Mode())
	}
	for _, file := range c.Model.Files {
		if source, err := os.Stat(file); err == nil && os.SameFile(info, source) {
			return nil, 0, Failf(ReasonQuantize, said+"another name of the model itself: %s", file)
		}
	}
	if n := links(info); n > 1 && p.reused == "" {
		return nil, 0, Failf(ReasonQuantize, said+"a file with %d names: another could change it", n)
	}
	header, err := gguf.Read(path)
	if err != nil {
		return nil, 0, Failf(ReasonQuantize, said+"a file that is not whole: %w", err)
	}
	if behind := info.Size() - header.Size; behind >= maxPadding {
		return nil, 0, Failf(ReasonQuantize, said+"a file with %d bytes behind its last tensor", behind)
	}
	if planned := p.size; p.reused == "" && planned >= sizeTolerance && max(planned-info.Size(), info.Size()-planned) > sizeTolerance+planned/100 {
		return nil, 0, Failf(ReasonQuantize, said+"a file of %d bytes instead of the announced %d", info.Size(), planned)
	}
	if most := c.mostBytes(p); most > 0 && info.Size() > most {
		return nil, 0, Failf(ReasonQuantize, said+"a file of %d bytes, and one of %s has %d at most", info.Size(), p.format.Name, most)
	}
	if is, ok := header.FileFormat(); gguf.Known(p.format.Name) && (!ok || is != p.format.Name) {
		return nil, 0, Failf(ReasonQuantize, said+"a file that says it is %s instead of %s", is, p.format.Name)
	}
	if err := cmp.Or(sameShape(c.Model.Header, header), sameTensors(c.Model.Header, header)); err != nil {
		return nil, 0, Failf(ReasonQuantize, said+"a file of another model: %w", err)
	}
	return header, info.Size(), nil
}

// mostBytes bounds the size of a copy that the engine could not tell; 0 where nothing is known,
// because the format is not known here, or arguments ask for other types.
func (c *cycle) mostBytes(p *pair) int64 {
	if p.size > 0 || p.reused != "" || c.inputs == nil || len(c.inputs.arguments("engine.quantize_args")) > 0 {
		return 0
	}
	if _, err := estimate.Of(c.Model.Header, p.format.Name); err != nil {
		return 0
	}
	return estimate.UpperBound(c.Model.Header, p.format.Name)*5/4 + sizeTolerance
}

// maxPadding bounds, in bytes, what may follow the last tensor: the alignment of a file is
// 32, and nowhere near this.
const maxPadding = 64 << 10

// sizeTolerance is by how many bytes, and a hundredth besides, a copy may miss the size that
// the engine reports beforehand, which is rounded.
const sizeTolerance = 64 << 10

// sameShape returns an error if a copy says to be of another kind or vocabulary than its model.
func sameShape(model, copied *gguf.Header) error {
	switch {
	case copied.Architecture != model.Architecture:
		return fmt.Errorf("its architecture is %q, and the model's is %q", copied.Architecture, model.Architecture)
	case copied.Tokenizer != model.Tokenizer || copied.Vocabulary != model.Vocabulary:
		return fmt.Errorf("its vocabulary has %d tokens of the kind %q, and the model's has %d of the kind %q",
			copied.Vocabulary, copied.Tokenizer, model.Vocabulary, model.Tokenizer)
	}
	return nil
}

// sameTensors returns an error if a copy's tensors differ from its model's in anything but
// types and order.
func sameTensors(model, copied *gguf.Header) error {
	shapes := map[string][]int64{}
	for i := range model.Tensors {
		t := &model.Tensors[i]
		shapes[t.Name] = t.Dims[:t.Dimensions()]
	}
	for i := range copied.Tensors {
		t := &copied.Tensors[i]
		shape, ok := shapes[t.Name]
		if !ok {
			return fmt.Errorf("it has a tensor %q, which the model does not have, or has it twice", t.Name)
		}
		if is := t.Dims[:t.Dimensions()]; !slices.Equal(is, shape) {
			return fmt.Errorf("its tensor %q has the shape %v, and the model's has %v", t.Name, is, shape)
		}
		delete(shapes, t.Name)
	}
	if len(shapes) > 0 {
		return fmt.Errorf("it has %d tensors, and the model %d", len(copied.Tensors), len(model.Tensors))
	}
	return nil
}
