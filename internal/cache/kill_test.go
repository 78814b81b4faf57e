package cache

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/program"
)

// The test binary is a process that fills a cache where the environment names its folder.
const fillEnv = "QUANT_EXPORTER_TEST_FILL"

func TestMain(m *testing.M) {
	dir := os.Getenv(fillEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	fmt.Println(fill(dir))
	os.Exit(1)
}

// killedSize holds some of the files that are put.
const killedSize = 4 << 20

// fill puts and gets files as fast as it can, and says which ones it has put.
func fill(dir string) error {
	c, err := Open(context.Background(), dir, killedSize, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "work-")
	if err != nil {
		return err
	}
	content := make([]byte, 2<<20)
	for i := 0; ; i++ {
		n := rand.IntN(20)
		for j := range content {
			content[j] = byte(n + j)
		}
		path := filepath.Join(work, fmt.Sprint("made-", i))
		if err := os.WriteFile(path, content[:1+rand.IntN(len(content))], 0o600); err != nil {
			return err
		}
		if err := c.Put(context.Background(), key(n), path); err != nil {
			return err
		}
		fmt.Println("put", n)
		got := filepath.Join(work, fmt.Sprint("got-", i))
		if _, _, err := c.Get(context.Background(), key(rand.IntN(20)), got); err != nil {
			return err
		}
		for _, path := range []string{path, got} {
			if err := remove(path); err != nil {
				return err
			}
		}
	}
}

// Whatever moment the process is killed at: what is there is whole, within the size, and
// what is not is gone with the next start.
func TestKilledAtAnyMoment(t *testing.T) {
	program.NotShort(t)
	const kills = 30
	dir := filepath.Join(t.TempDir(), "cache")
	puts := 0
	for i := range kills {
		puts += killAtRandom(t, dir)
		c := openCache(t, dir, killedSize)
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		total := int64(0)
		for _, f := range files {
			if f.Name() == lockName {
				continue
			}
			match := entryName.FindStringSubmatch(f.Name())
			require.NotNil(t, match, "kill %d left %s", i, f.Name())
			content, err := os.ReadFile(filepath.Join(dir, f.Name()))
			require.NoError(t, err)
			require.Equal(t, match[2], hashOfBytes(content), "kill %d", i)
			total += int64(len(content))
		}
		require.LessOrEqual(t, total, int64(killedSize))
		for n := range 20 {
			_, _, err := c.Get(t.Context(), key(n), filepath.Join(t.TempDir(), "copy"))
			require.NoError(t, err)
		}
	}
	t.Logf("%d kills, %d files put", kills, puts)
	assert.Greater(t, puts, kills, "the children must get somewhere")
}

// killAtRandom gives how many files the child has put.
func killAtRandom(t *testing.T, dir string) (puts int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fillEnv+"="+dir)
	child.Stderr = os.Stderr
	said := program.Lines(t, child)
	for range 1 + rand.IntN(10) {
		line, ok := <-said
		require.True(t, ok, "the child ended by itself")
		require.Contains(t, line, "put ")
		puts++
	}
	<-time.After(rand.N(10 * time.Millisecond)) // into whatever it does next
	require.NoError(t, child.Process.Kill())
	for range said {
		puts++
	}
	_ = child.Wait()
	require.Equal(t, "signal: killed", child.ProcessState.String())
	return puts
}
