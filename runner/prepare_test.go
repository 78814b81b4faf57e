package runner_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// A working folder on SMB, exFAT or the like has no links: the model is copied, once.
func TestWorkingFolderWithoutLinks(t *testing.T) {
	for _, isolation := range []disk.Mode{disk.Auto, disk.Copy} {
		t.Run(string(isolation), func(t *testing.T) {
			f := newFixture(t, &engine{}, "Q2_K", "Q8_0")
			f.options.Isolation = isolation
			copied := 0
			f.options.Clone = func(ctx context.Context, mode disk.Mode, src, dst string, progress func(done, total int64)) (disk.Mode, error) {
				if mode == disk.Shared {
					return "", disk.ErrNotShared
				}
				copied++
				assert.True(t, strings.HasPrefix(filepath.Base(dst), "original"), dst)
				return disk.Clone(ctx, disk.Copy, src, dst, progress)
			}
			for target, r := range f.run(t.Context()) {
				require.Nil(t, r.Failure, target)
				assert.Equal(t, verdict.Kept, r.Outcome())
				assert.Equal(t, "copy", r.Evidence.Isolation)
			}
			assert.Equal(t, 1, copied)
		})
	}
}
