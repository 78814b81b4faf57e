package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/test/namespace"
)

func TestIsFull(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), mountEnv+"="+t.TempDir())
	namespace.WithMounts(child)
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// lookAtMounts mounts file systems below a directory that nobody else sees, and returns an error
// unless IsFull says of each what it is.
func lookAtMounts(dir string) error {
	for _, tt := range []struct {
		name, options string
		want          bool
	}{
		{"room", "size=8m", false},
		{"small", "size=300k", true},
		{"refusing", "size=8m,nr_inodes=1", true}, // like a quota: much is free, and nothing can be written
	} {
		mount := filepath.Join(dir, tt.name)
		if err := os.Mkdir(mount, 0o700); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, tt.options); err != nil {
			return fmt.Errorf("mounting %s: %w", tt.name, err)
		}
		if got := IsFull(mount); got != tt.want {
			return fmt.Errorf("IsFull of %q is %v", tt.name, got)
		}
		if left, err := os.ReadDir(mount); err != nil || len(left) > 0 {
			return fmt.Errorf("%q holds %v, %w", tt.name, left, err)
		}
	}
	return nil
}
