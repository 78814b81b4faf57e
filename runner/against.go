package runner

import (
	"context"
	"fmt"
)

// Existing finds one file to compare a model with, quantized or not, by its name or path:
// see Select, which also names what is not to be found. A file that is there and cannot be
// used, such as one that is cut off, comes back with its Err set.
func (f Found) Existing(name string) (Model, error) {
	if isGlob(name) {
		return Model{}, fmt.Errorf("%q is a pattern: name one file, or a link to it", name)
	}
	f.AllowRequantize = true // that it is quantized is no reason to pass it over
	inside, outside, err := f.match(name)
	switch {
	case err != nil:
		return Model{}, err
	case outside != nil:
		return f.nameOutside([]Model{*outside})[0], nil
	default:
		return inside[0], nil
	}
}

// ComparableWith says why a file cannot be a copy of the model. The error is a *Failure;
// nil where it may be one, or where either cannot be read.
func (m Model) ComparableWith(file Model) error {
	if m.Header == nil || file.Header == nil {
		return nil
	}
	is, was := file.Header, m.Header
	switch {
	case is.Architecture != was.Architecture:
		return Failf(ReasonBadModel, "%s is of the architecture %q and %s of %q: they cannot be compared, so name a quantized file of that model",
			file.Path, is.Architecture, m.Path, was.Architecture)
	case is.Vocabulary != was.Vocabulary:
		return Failf(ReasonBadModel, "%s has a vocabulary of %d tokens and %s one of %d: they cannot be compared, so name a quantized file of that model",
			file.Path, is.Vocabulary, m.Path, was.Vocabulary)
	}
	return nil
}

// usable says why the cycle need not begin.
func (c *cycle) usable() error {
	switch {
	case c.Model.Err != nil:
		return c.Model.Err
	case c.Against == nil:
		return nil
	case c.Against.Err != nil:
		return c.Against.Err
	default:
		return c.Model.ComparableWith(*c.Against)
	}
}

// bring has the file that exists take the place of a copy.
func (c *cycle) bring(ctx context.Context) error {
	if c.Against == nil {
		return nil
	}
	file, _, err := c.clone(ctx, c.Isolation, *c.Against, "against")
	if err != nil {
		return err
	}
	for _, p := range c.undecided() {
		p.file = file
		p.quantized = copyFigures(p.target, c.Against.Header, c.Against.Size)
	}
	return nil
}
