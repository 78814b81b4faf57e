package publish

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
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
				begun, done := losePower(t, disk, dir, scratch, next)
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

// losePower has a child publish on the disk until its power goes; see killPublishing.
func losePower(t *testing.T, disk *powerloss.Disk, dir, scratch string, first uint64) (begun, done uint64) {
	t.Helper()
	child := childCommand("kill", dir, scratch, strconv.FormatUint(first, 10), "pair")
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	said := make(chan string, 100_000)
	go func() {
		defer close(said)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			said <- scanner.Text()
		}
	}()
	take := func(line string) {
		var cycle uint64
		if _, err := fmt.Sscanf(line, "begin %d", &cycle); err == nil {
			begun = cycle
		} else if _, err := fmt.Sscanf(line, "published %d", &cycle); err == nil {
			done = cycle
		}
	}
	for range 1 + rand.IntN(6) {
		line, ok := <-said
		require.True(t, ok, "the child ended by itself")
		take(line)
	}
	<-time.After(rand.N(20 * time.Millisecond)) // into whatever it does next
	disk.Lose(child.Process)
	for line := range said {
		take(line)
	}
	return begun, done
}
