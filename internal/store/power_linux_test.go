package store

import (
	"bufio"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/test/powerloss"
)

var losses = flag.Int("losses", 0, "power losses that a disk has while results are stored on it; 0 tests none")

// Whenever the power goes: everything that was said to be stored is there, once, and nothing
// contradicts itself.
func TestPowerLoss(t *testing.T) {
	if *losses == 0 {
		t.Skip("make chaos runs it: it needs root and a loop device")
	}
	for _, fileSystem := range powerloss.FileSystems {
		t.Run(fileSystem, func(t *testing.T) {
			disk := powerloss.New(t, fileSystem)
			dir := filepath.Join(disk.Path, "state")
			acknowledged := 0
			for i := range *losses {
				lines := losePower(t, disk, dir)
				s, err := Open(dir, Options{Retention: config.Retention{Cycles: keptCycles}})
				require.NoError(t, err)
				require.NoError(t, s.Check(), "loss %d", i)
				assert.Empty(t, s.State().Running)
				for _, line := range lines {
					acknowledged += acknowledgedIsThere(t, s, line)
				}
				require.NoError(t, s.Close())
			}
			t.Logf("%d power losses on %s, %d acknowledged commits, all there", *losses, fileSystem, acknowledged)
			assert.Greater(t, acknowledged, *losses, "the children must get somewhere")
		})
	}
}

// losePower runs the child until the power of its disk goes, and gives the lines that it has
// written.
func losePower(t *testing.T, disk *powerloss.Disk, dir string) (lines []string) {
	t.Helper()
	child := childCommand("kill", dir) // what it says when its disk has gone is of no use
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
	for range 1 + rand.IntN(30) {
		line, ok := <-said
		require.True(t, ok, "the child ended by itself: %q", lines)
		lines = append(lines, line)
	}
	<-time.After(rand.N(10 * time.Millisecond)) // into whatever it does next
	disk.Lose(child.Process)
	for line := range said {
		lines = append(lines, line)
	}
	return lines
}
