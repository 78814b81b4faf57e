package publish

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

var kills = flag.Int("kills", 50, "how often a process that publishes is killed at random")

// publishUntilKilled publishes the copies of one cycle after the other, as fast as it can,
// and says so.
func publishUntilKilled(args []string) error {
	cycle, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	d, err := Open(args[0], nil)
	if err != nil {
		return err
	}
	for ; ; cycle++ {
		c := copyOf(inDir(args[1]), cycle)
		c.Chosen = args[3] == "chosen"
		fmt.Println("begin", cycle)
		if _, err := d.Publish(context.Background(), c); err != nil {
			return err
		}
		fmt.Println("published", cycle)
	}
}

// Whatever moment a process that publishes is killed at: the link leads to the copy before
// or to the new one, and that and every other version is whole.
func TestKilledPublishing(t *testing.T) {
	program.NotShort(t)
	scratch := t.TempDir()
	layouts := map[string]string{"pair": t.TempDir(), "chosen": t.TempDir()}
	links := map[string]string{
		"pair":   filepath.Join(layouts["pair"], "a", "m", "Q4_K_M", "stable"),
		"chosen": filepath.Join(layouts["chosen"], "a", "m", "stable"),
	}
	next := map[string]uint64{"pair": 2, "chosen": 2}
	torn, within, old, published := 0, 0, 0, 0
	for i := range *kills {
		layout := []string{"pair", "chosen"}[i%2]
		dir := layouts[layout]
		begun, done := killPublishing(t, scratch, dir, next[layout], layout)
		if left, _ := os.ReadDir(filepath.Join(dir, ".incoming")); len(left) > 0 {
			within++
		}
		ok := t.Run(strconv.Itoa(i), func(t *testing.T) {
			cycle, _ := stableOf(t, links[layout])
			before := max(done, next[layout]-1)
			if before < 2 { // none was ever published
				before = 0
			}
			require.Contains(t, []uint64{before, begun}, cycle, "published up to %d, and at %d", done, begun)
			if cycle != begun || begun == 0 {
				old++
			}
			versionsIn(t, filepath.Join(dir, "a", "m", "Q4_K_M"))
			next[layout] = max(cycle, before, 1) + 1 // 0 and 1 stand for none
		})
		if !ok {
			torn++
			break
		}
		if done > 0 {
			published++
		}
		require.NoError(t, os.RemoveAll(scratch))
		require.NoError(t, os.Mkdir(scratch, 0o700))
	}
	t.Logf("%d kills, %d of them within a publication, after which %d links led to the copy before; %d torn", *kills, within, old, torn)
	assert.Greater(t, within, *kills/4, "the kills have to hit publications")
	assert.Greater(t, published, *kills/10, "the processes have to get somewhere")
	for layout, dir := range layouts { // and everything goes on
		c := copyOf(t, next[layout]+1)
		c.Chosen = layout == "chosen"
		_, err := open(t, dir).Publish(t.Context(), c)
		require.NoError(t, err)
		assertNothingIncoming(t, dir)
	}
}

// killPublishing runs the child and kills it; see publishUntil.
func killPublishing(t *testing.T, scratch, dir string, first uint64, layout string) (begun, done uint64) {
	t.Helper()
	child := childCommand("kill", dir, scratch, strconv.FormatUint(first, 10), layout)
	child.Stderr = os.Stderr
	begun, done = publishUntil(t, child, 5*time.Millisecond, func() { require.NoError(t, child.Process.Kill()) })
	_ = child.Wait()
	require.Equal(t, "signal: killed", child.ProcessState.String())
	return begun, done
}

// publishUntil runs the child, which publishes, until end ends it, soon after it has said
// something, and gives the last cycles of which it said that it begins to publish them, and
// that it has; 0 for none.
func publishUntil(t *testing.T, child *exec.Cmd, soon time.Duration, end func()) (begun, done uint64) {
	t.Helper()
	said := program.Lines(t, child)
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
	<-time.After(rand.N(soon)) // into whatever it does next
	end()
	for line := range said {
		take(line)
	}
	return begun, done
}

// publishAndDieAt publishes a copy, and kills itself before the given step.
func publishAndDieAt(args []string) error {
	step, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	cycle, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return err
	}
	d, err := Open(args[0], nil)
	if err != nil {
		return err
	}
	steps := 0
	dies := func() {
		if steps++; steps == step {
			kill()
		}
	}
	d.system = system{
		sync:    func(path string) error { dies(); return disk.Sync(path) },
		rename:  func(from, to string) error { dies(); return os.Rename(from, to) },
		symlink: os.Symlink,
	}
	c := copyOf(inDir(args[1]), cycle)
	c.Keep = 1
	_, err = d.Publish(context.Background(), c)
	return err
}

// The same before each single step: of a new copy, and of the one that is there already.
func TestKilledAtEveryStep(t *testing.T) {
	program.NotShort(t)
	for name, cycle := range map[string]uint64{"new": 4, "the same": 3} {
		t.Run(name, func(t *testing.T) {
			switched := false
			for step := 1; ; step++ {
				dir := t.TempDir()
				before, err := open(t, dir).Publish(t.Context(), copyOf(t, 2))
				require.NoError(t, err)
				child := childCommand("step", dir, t.TempDir(), strconv.Itoa(step), strconv.FormatUint(cycle, 10))
				out, err := child.CombinedOutput()
				if err == nil {
					assert.Greater(t, step, 5)
					break
				}
				require.Equal(t, "signal: killed", child.ProcessState.String(), "%s", out)
				at, _ := stableOf(t, before.Stable)
				require.Contains(t, []uint64{2, cycle}, at)
				require.False(t, switched && at == 2, "it went back")
				switched = at == cycle
				versionsIn(t, filepath.Dir(before.Dir))
				open(t, dir)
				assertNothingIncoming(t, dir)
			}
			assert.True(t, switched)
		})
	}
}
