package store

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

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
				child := childCommand("kill", dir) // what it says when its disk has gone is of no use
				lines := storeUntil(t, child, 10*time.Millisecond, func() { disk.Lose(child.Process) })
				acknowledged += assertAcknowledged(t, dir, lines, fmt.Sprintf("loss %d", i))
			}
			t.Logf("%d power losses on %s, %d acknowledged commits, all there", *losses, fileSystem, acknowledged)
			assert.Greater(t, acknowledged, *losses, "the children must get somewhere")
		})
	}
}
