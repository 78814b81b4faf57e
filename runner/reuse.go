package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Cache keeps files that cycles made, for the cycles after them.
type Cache interface {
	// Has reports whether there is a file of the key that takes no room in a directory.
	Has(key, dir string) bool
	// Get brings it to path, whole, and gives the SHA-256 of what it holds; false when
	// there is none.
	Get(ctx context.Context, key, path string) (hash string, found bool, err error)
	// Put takes the file at path in.
	Put(ctx context.Context, key, path string) error
	// Drop removes the file of a key, if there is one.
	Drop(ctx context.Context, key string) error
	// MakeRoom removes files, except those with a key in keep, until so many bytes are free
	// in a directory or no files are left.
	MakeRoom(ctx context.Context, dir string, bytes int64, keep []string) error
}

// keyOfParts names a file by what it is made of: no two lists have the same.
func keyOfParts(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// keepsFiles reports whether this cycle's files can be named by what they are made from. They
// cannot if the engine does not report its build.
func (c *cycle) keepsFiles() bool {
	return c.Cache != nil && c.inputs != nil && c.inputs.Engine.known()
}

// key tells builds apart.
func (e EngineID) key() string { return keyOfParts(e.Name, e.Version, strconv.Itoa(e.Build), e.Commit) }

// copyKey returns the key of a pair's copy; "" for none.
func (c *cycle) copyKey(p *pair) string {
	if !c.keepsFiles() {
		return ""
	}
	i := c.inputs.Of(p.target)
	return keyOfParts(append([]string{"copy", i.Source, i.Engine.key(), p.format.Name}, i.arguments("engine.quantize_args", "engine.imatrix", "recipe.")...)...)
}

// predictionsKey returns the key of what the original predicts in so many chunks; "" for none. It depends on the
// machine, too: other instructions round otherwise.
func (c *cycle) predictionsKey(chunks int) string {
	if !c.keepsFiles() {
		return ""
	}
	i := c.inputs
	parts := []string{"predictions", i.Source, i.Engine.key(), i.Corpus, strconv.Itoa(chunkTokens), strconv.Itoa(chunks), i.Hardware, i.Driver, i.Devices}
	return keyOfParts(append(parts, i.arguments("baseline", "engine.")...)...)
}

// predictionsKeys returns the keys of all looks.
func (c *cycle) predictionsKeys() (keys []string) {
	for _, chunks := range c.looks() {
		keys = append(keys, c.predictionsKey(chunks))
	}
	return keys
}

// arguments returns the names and values of those that begin with one of the prefixes.
func (i *Inputs) arguments(prefixes ...string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(i.Arguments)) {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			all = append(all, name, i.Arguments[name])
		}
	}
	return all
}

// reuse brings a kept file into the working directory, under its name there, and gives the
// SHA-256 of what it holds; "" when it has to be made. A cache that fails costs time only.
func (c *cycle) reuse(ctx context.Context, key, name string) (hash string) {
	if key == "" {
		return ""
	}
	hash, found, err := c.Cache.Get(ctx, key, filepath.Join(c.dir, name))
	switch {
	case err != nil && ctx.Err() == nil:
		c.Logger.Warn("a kept file cannot be reused, and is made again", "model", c.Model.Name, "name", name, "err", err)
	case found:
		c.Logger.Info("a file that an earlier cycle made is reused", "model", c.Model.Name, "name", name, "sha256", hash)
		return hash
	}
	return ""
}

// keep keeps a file of the working directory for later cycles.
func (c *cycle) keep(ctx context.Context, key, name string) {
	if key == "" {
		return
	}
	if err := c.Cache.Put(ctx, key, filepath.Join(c.dir, name)); err != nil && ctx.Err() == nil {
		c.Logger.Warn("a file is not kept for later cycles", "model", c.Model.Name, "name", name, "err", err)
	}
}

// drop removes a kept file that may have made a cycle fail: the next one makes it again.
func (c *cycle) drop(ctx context.Context, key string) {
	if key == "" {
		return
	}
	if err := c.Cache.Drop(ctx, key); err != nil && ctx.Err() == nil {
		c.Logger.Warn("a kept file cannot be dropped", "model", c.Model.Name, "err", err)
	}
}

// dropFailed drops the kept files that a pair failed with, unless the reason lies elsewhere.
func (c *cycle) dropFailed(p *pair, reason Reason) {
	if p.quantized.Bytes == 0 || c.Against != nil {
		return
	}
	switch reason {
	case ReasonCanceled, ReasonSourceChanged, ReasonNoSpace:
		return
	case ReasonTimeout, ReasonOutOfMemory: // a file that a tool reads for ever, or that claims too much, is made anew once
		if p.reused == "" {
			return
		}
	case ReasonEvaluate, ReasonBadModel:
		c.dropPredictions()
	}
	c.drop(context.Background(), c.copyKey(p))
	if c.baseline != nil {
		c.drop(context.Background(), c.copyKey(c.baseline))
	}
}

// dropRejected drops what an earlier cycle made when a pair is rejected by its quality: a damaged
// file would reject it for good.
func (c *cycle) dropRejected(p *pair) {
	if p.reused != "" {
		c.drop(context.Background(), c.copyKey(p))
	}
	if p.evidence != nil && p.evidence.Reused != "" {
		c.dropPredictions()
	}
}

func (c *cycle) dropPredictions() {
	for _, key := range c.predictionsKeys() {
		c.drop(context.Background(), key)
	}
}

// kept reports whether a file of the key is there, and takes no room in the cycle.
func (c *cycle) kept(key string) bool { return key != "" && c.Cache.Has(key, c.dir) }

// makeRoom removes kept files that the cycle does not need, until so many bytes are free.
func (c *cycle) makeRoom(ctx context.Context, bytes int64) {
	if !c.keepsFiles() {
		return
	}
	keep := c.predictionsKeys()
	for _, p := range c.copies() {
		keep = append(keep, c.copyKey(p))
	}
	if err := c.Cache.MakeRoom(ctx, c.dir, bytes, keep); err != nil && ctx.Err() == nil {
		c.Logger.Warn("kept files cannot make room for the cycle", "model", c.Model.Name, "err", err)
	}
}
