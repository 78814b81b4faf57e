package llamacpp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// A round that measures deep in a context begins with a prompt that is the same in every round of
// the cycle. The server that has computed it saves its cache to a file, and the next round's server of
// the same model reads that file into memory of its own. To compute the prompt again would take
// longer than all that is measured after it.

// saveOption has a server save and restore caches, in files of the folder that it names.
const saveOption = "--slot-save-path"

// savedName is the file that the cache of a server is saved to.
func savedName(file string) string { return file + ".slot" }

// reusable reports whether a server computes more before the first turn than the longest prompt that is
// measured: to touch the buffers that a prompt of that length takes, each server has to compute one.
func (r *pairedRound) reusable() bool { return r.deep() > r.touched()-r.job.Depth }

// warmUpFromSaved warms a server up with the cache that an earlier round's has saved. It is false where
// there is none, or none that the server takes.
func (r *pairedRound) warmUpFromSaved(ctx context.Context, file int, text []int32) (done bool, err error) {
	saved := filepath.Join(r.job.Dir, savedName(r.job.Files[file]))
	if _, err := os.Stat(saved); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.logger.Debug("looking for a saved cache", "file", r.job.Files[file], "err", err)
		}
		return false, nil
	}
	if r.job.Depth > 0 { // the prompt begins there
		if restored, err := r.restore(ctx, file); !restored {
			return false, err
		}
	}
	other := slices.Clone(text[:min(r.touched(), len(text))])
	for i := r.job.Depth; i < len(other); i++ {
		other[i] = (other[i] + 1) % r.vocabulary()
	}
	if err := r.servers[file].compute(ctx, other); err != nil {
		return false, err
	}
	return r.restore(ctx, file)
}

// restore has a server read its saved cache. What it does not take is removed.
func (r *pairedRound) restore(ctx context.Context, file int) (bool, error) {
	name := savedName(r.job.Files[file])
	tokens, said, err := r.servers[file].slot(ctx, "restore", name)
	if err != nil {
		return false, err
	}
	if tokens < r.deep() {
		r.logger.Debug("a saved cache is computed anew", "file", r.job.Files[file], "tokens", tokens, "said", said)
		return false, r.forget(name)
	}
	return true, nil
}

// Bounds of what is saved: no more than a share of the room on the disk, and nothing that takes longer
// to read than to compute.
const (
	leastRoom = 8   // times what the cache takes
	readSpeed = 2e8 // bytes a second that a disk reads at least
)

// save has a server save its cache. Where it does not, the next round computes it again.
func (r *pairedRound) save(ctx context.Context, file int) error {
	s, name := r.servers[file], savedName(r.job.Files[file])
	size := s.log.cacheBytes()
	if free, err := disk.Free(r.job.Dir); size == 0 || err != nil || free/leastRoom < size || float64(size)/readSpeed > s.prompt.Seconds() {
		r.logger.Debug("a cache is not saved", "file", r.job.Files[file], "bytes", size, "computed", s.prompt, "free", free, "err", err)
		return nil
	}
	tokens, said, err := s.slot(ctx, "save", name)
	if err != nil {
		return err
	}
	if tokens < r.deep() {
		r.logger.Debug("a cache was not saved", "file", r.job.Files[file], "tokens", tokens, "said", said)
		return r.forget(name)
	}
	return nil
}

func (r *pairedRound) forget(name string) error {
	if err := os.Remove(filepath.Join(r.job.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a saved cache: %w", err)
	}
	return nil
}

// slot has the server save or restore the cache of its first sequence, and returns how many tokens
// that has; 0, with what it said, where it refused.
func (s *server) slot(ctx context.Context, action, file string) (tokens int, said string, err error) {
	r, err := s.post(ctx, "/slots/0?action="+action, struct {
		File string `json:"filename"`
	}{file})
	if err != nil {
		return 0, "", err
	}
	var of struct {
		Saved    int `json:"n_saved"`
		Restored int `json:"n_restored"`
	}
	if r.status != http.StatusOK || json.Unmarshal(r.text, &of) != nil {
		return 0, clip(string(r.text), 240), nil
	}
	return max(of.Saved, of.Restored), "", nil
}
