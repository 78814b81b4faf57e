package publish

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/powerloss"
)

var losses = flag.Int("losses", 0, "power losses that a disk has while copies are published on it; 0 tests none")

// Whenever the power goes: the link leads to the copy that was published last, or to the next
// one, and that and every other version is whole.
func TestPowerLoss(t *testing.T) {
	if *losses == 0 {
		t.Skip("make chaos runs it: it needs root, mkfs and a loop device")
	}
	for _, fileSystem := range powerloss.FileSystems {
		t.Run(fileSystem, func(t *testing.T) {
			disk := powerloss.New(t, fileSystem)
			dir, scratch := filepath.Join(disk.Path, "published"), filepath.Join(disk.Path, "scratch")
			link := filepath.Join(dir, "a", "m", "Q4_K_M", "stable")
			next, within, published := uint64(2), 0, 0
			for i := range *losses {
				require.NoError(t, os.MkdirAll(scratch, 0o700))
				child := childCommand("kill", dir, scratch, strconv.FormatUint(next, 10), "pair") // what it says when its disk has gone is of no use
				begun, done := publishUntil(t, child, 20*time.Millisecond, func() { disk.Lose(child.Process) })
				if left, _ := os.ReadDir(filepath.Join(dir, incomingDir)); len(left) > 0 {
					within++
				}
				cycle, _ := stableOf(t, link)
				last := max(done, next-1)
				if last < 2 {
					last = 0
				}
				require.Contains(t, []uint64{last, begun}, cycle, "loss %d: published up to %d, and at %d", i, done, begun)
				versionsIn(t, filepath.Dir(link))
				next = max(cycle, last, 1) + 1
				if done > 0 {
					published++
				}
				require.NoError(t, os.RemoveAll(scratch))
			}
			d := open(t, dir)
			assertNothingIncoming(t, dir)
			_, err := d.Publish(t.Context(), copyOf(t, next))
			require.NoError(t, err)
			t.Logf("%d power losses on %s, %d of them within a publication; none torn", *losses, fileSystem, within)
			assert.Greater(t, published, *losses/10, "the processes have to get somewhere")
		})
	}
}
