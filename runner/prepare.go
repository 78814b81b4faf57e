package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/estimate"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
)

// resolveFormats finds each target, or the format of its recipe, among the formats that the
// engine makes. A target that is not among them gets an error in its place.
func resolveFormats(info EngineInfo, targets []string, recipes config.Recipes) ([]Format, []error) {
	resolved, errs := make([]Format, len(targets)), make([]error, len(targets))
	plain := map[string]string{} // targets without a recipe, by format
	for i, target := range targets {
		recipe, name := recipes.Of(target), recipes.Format(target)
		format, ok := findFormat(info.Formats, name)
		_, isFormat := findFormat(info.Formats, target)
		first, twice := plain[format.Name]
		switch {
		case recipe != nil && isFormat:
			errs[i] = fmt.Errorf("the recipe %q has the name of a format that this %s makes: give it another one", target, info.Name)
		case !ok:
			errs[i] = fmt.Errorf("%q is not a format that this %s makes; it makes %s", name, info.Name, formatNames(info.Formats))
		case format.NeedsImatrix && !info.Imatrix && (recipe == nil || recipe.Imatrix == ""):
			errs[i] = fmt.Errorf("%s is useless without an importance matrix: make one with llama-imatrix and name its file as engine.imatrix, or choose another format", target)
		case recipe == nil && twice:
			errs[i] = fmt.Errorf("the targets %q and %q are the same format: name it once", first, target)
		default:
			resolved[i] = format
			if recipe == nil {
				plain[format.Name] = target
			}
		}
	}
	return resolved, errs
}

// findFormat takes the name in any case and follows an alias.
func findFormat(formats []Format, name string) (Format, bool) {
	for range 2 { // an alias leads to a name in one step
		i := slices.IndexFunc(formats, func(f Format) bool { return strings.EqualFold(f.Name, name) })
		if i < 0 {
			return Format{}, false
		}
		if formats[i].Alias == "" {
			return formats[i], true
		}
		name = formats[i].Alias
	}
	return Format{}, false
}

func formatNames(formats []Format) string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.Name
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// isolate sees that everything will fit into the working directory and brings the
// model in.
func (c *cycle) isolate(ctx context.Context) error {
	begin := time.Now()
	defer func() { c.isolating = time.Since(begin) }()
	c.Progress(Progress{Model: c.Model.Name, Operation: OperationIsolate})

	if err := c.sourceUnchanged(ctx); err != nil { // since its header was read
		return err
	}
	c.watchSource()
	if len(c.pairs) > 0 { // else there is nothing to decide
		inputs, err := c.findInputs(ctx)
		if err != nil {
			return fmt.Errorf("finding what the decision depends on: %w", err)
		}
		c.inputs = inputs
	}
	if err := c.fits(ctx); err != nil {
		return err
	}
	if len(c.pairs) > 0 && len(c.undecided()) == 0 { // the engine refused them all
		return nil
	}
	if c.isolation == "" {
		file, how, err := c.clone(ctx, c.Isolation, c.Model, "original")
		if err != nil {
			return err
		}
		c.source, c.original, c.isolation = file, file, string(how)
	}
	return c.attach(ctx)
}

// clone brings a model's files into the working directory, under safe names. It returns the
// name of the first.
func (c *cycle) clone(ctx context.Context, mode disk.Mode, source model.Model, prefix string) (first string, how disk.Mode, err error) {
	done := int64(0)
	for i, file := range source.Files {
		name := prefix + ".gguf"
		if len(source.Files) > 1 { // llama.cpp finds the other shards by this pattern
			name = gguf.ShardPath(prefix, i+1, len(source.Files))
		}
		if i == 0 {
			first = name
		}
		how, err = c.Clone(ctx, mode, file, filepath.Join(c.dir, name), func(copied, _ int64) {
			c.Progress(Progress{
				Model: c.Model.Name, Operation: OperationIsolate, Detail: "copying the model",
				Done: float64(done+copied) / float64(max(source.Size, 1)),
			})
		})
		if err != nil {
			return "", "", fmt.Errorf("bringing %s into the working folder: %w", file, c.blameSource(ctx, spaceFailure(err)))
		}
		done += source.IDs[i].Size
		if how == disk.Link {
			if err := c.linked(name, source.IDs[i].Path); err != nil {
				return "", "", err
			}
		}
		if prefix == planned {
			continue
		}
		if err := c.bring(name, c.contents[source.IDs[i].Path]); err != nil {
			return "", "", err
		}
	}
	return first, how, nil
}

// planned is what the model is called in the working directory while sizes are asked for.
const planned = "plan"

// plan brings the model in for the engine to be asked for sizes: through links, so that
// nothing is copied before it is known to fit. Where the file systems have none of any kind
// the model is copied now, if there is room for that. It gives the bytes that isolating will
// still write.
func (c *cycle) plan(ctx context.Context) (need int64, err error) {
	file, _, err := c.clone(ctx, disk.Shared, c.Model, planned)
	copied := c.Isolation == disk.Copy
	switch {
	case errors.Is(err, disk.ErrNotShared):
		if err := c.room(ctx, c.Model.Size, "exactly"); err != nil {
			return 0, err
		}
		if file, _, err = c.clone(ctx, disk.Copy, c.Model, "original"); err != nil {
			return 0, err
		}
		c.isolation, copied = string(disk.Copy), true
	case err != nil:
		return 0, err
	case copied:
		need = c.Model.Size
	}
	if copied && c.Against != nil {
		need += c.Against.Size
	}
	c.source, c.original = file, file
	return need, nil
}

// fits compares what the cycle will write with what is free. It asks the engine for
// the exact sizes. A pair that the engine refuses at this point fails by itself.
func (c *cycle) fits(ctx context.Context) error {
	need, err := c.plan(ctx)
	if err != nil {
		return err
	}
	exactly := "exactly"
	copies := c.copies()
	for i, planned := range c.plannedSizes(ctx, copies) {
		p, bytes, exact, err := copies[i], planned.bytes, planned.exact, planned.err
		if err != nil {
			err = fmt.Errorf("asking for the size of %s: %w", p.target, err)
			if err := c.concernsAll(ctx, err); err != nil {
				return err
			}
			if p == c.baseline {
				return err
			}
			c.fail(p, err)
			continue
		}
		if exact {
			p.size = bytes
		} else {
			format := p.format.Name
			if p.recipe != nil { // which may make any type of any tensor
				format = ""
			}
			bytes, exactly = estimate.UpperBound(c.Model.Header, format), "at most"
		}
		if !c.kept(c.copyKey(p)) {
			need += bytes
		}
	}
	if c.Quality.Enabled() && len(c.undecided()) > 0 {
		bytes, err := c.evaluationSize(ctx)
		if err != nil {
			return err
		}
		need += bytes
	}
	if err := c.sourceUnchanged(ctx); err != nil { // since the engine was asked
		return err
	}
	links, err := filepath.Glob(filepath.Join(c.dir, "plan*.gguf"))
	if err != nil {
		return fmt.Errorf("finding the planning links: %w", err)
	}
	for _, link := range links {
		if err := os.Remove(link); err != nil {
			return fmt.Errorf("removing a planning link: %w", err)
		}
	}
	c.watchSource() // a hard link that is removed touches it
	return c.room(ctx, need, exactly)
}

type plannedSize struct {
	bytes int64
	exact bool
	err   error
}

// plannedSizes asks the engine for the sizes of the copies, in their order; of several at a
// time, because each is a process that only reads a header.
func (c *cycle) plannedSizes(ctx context.Context, copies []*pair) []plannedSize {
	sizes := make([]plannedSize, len(copies))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range copies {
		job := c.quantizeJob(p)
		group.Go(func() error {
			s := &sizes[i]
			s.bytes, s.exact, s.err = c.engine.QuantizedSize(ctx, job)
			return nil
		})
	}
	_ = group.Wait() // errors are the copies'
	return sizes
}

// room fails unless so many bytes are free in the working directory; kept files make room.
func (c *cycle) room(ctx context.Context, need int64, exactly string) error {
	free, err := disk.Free(c.dir)
	if err == nil && need > free {
		c.makeRoom(ctx, need)
		free, err = disk.Free(c.dir)
	}
	if err != nil {
		return fmt.Errorf("reading the free space of %s: %w", c.WorkDir, err)
	}
	if need > free {
		return Failf(ReasonNoSpace, "the cycle needs %s %s in %s and %s are free: free some, name another folder with --work.dir, or try fewer targets at a time",
			exactly, bytesText(need), c.WorkDir, bytesText(free))
	}
	return nil
}

// FiguresOf describes the model as a whole.
func FiguresOf(m model.Model) FileFigures { return figures(m.Header, m.Size) }

// copyFigures are figures that say how far a copy is of its format.
func copyFigures(format string, h *gguf.Header, bytes int64) FileFigures {
	f := figures(h, bytes)
	f.FallbackShare = gguf.FallbackShare(format, h)
	return f
}

// figures describe a file, or a set of files, by its header.
func figures(h *gguf.Header, bytes int64) FileFigures {
	return FileFigures{
		Format:        h.Format,
		Bytes:         bytes,
		Parameters:    h.Parameters,
		BitsPerWeight: h.BitsPerWeight(),
	}
}

// bytesText writes a size as disk tools do, in powers of ten, with the exact figure
// where rounding would hide a difference.
func bytesText(n int64) string {
	if n < 1e6 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f MB (%d bytes)", float64(n)/1e6, n)
}
