package runner

import (
	"cmp"
	"context"
	"fmt"
	"syscall"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// usable returns the failure of a cycle that need not begin; nil when it may.
func (c *cycle) usable() error {
	err := c.Model.Err
	if err == nil && c.Against != nil {
		err = cmp.Or(c.Against.Err, c.Model.ComparableWith(*c.Against))
	}
	switch {
	case err == nil:
		return nil
	case isOneOf(err, syscall.EMFILE, syscall.ENFILE): // which says nothing of the file
		return fmt.Errorf("reading the header of %s: %w", c.Model.Name, err)
	case isOffline(err):
		return offline(err)
	}
	return Failf(ReasonBadModel, "%w", err)
}

// attach has the file that exists take the place of a copy.
func (c *cycle) attach(ctx context.Context) error {
	if c.Against == nil {
		return nil
	}
	file, _, err := c.clone(ctx, c.Isolation, *c.Against, "against")
	if err != nil {
		return err
	}
	for _, p := range c.undecided() {
		p.file = file
		p.quantized = copyFigures(gguf.Canonical(c.Against.Header.Format), c.Against.Header, c.Against.Size)
	}
	return nil
}
