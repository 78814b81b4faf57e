package llamacpp

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
)

// CUDA's driver writes the names of its threads; no other needs to write below /proc.
func TestDevicesOfTheSandbox(t *testing.T) {
	for device, want := range map[string][]string{
		"/dev/nvidiactl":  {"/dev/nvidiactl", "/proc"},
		"/dev/nvhost-gpu": {"/dev/nvhost-gpu", "/proc"},
		"/dev/kfd":        {"/dev/kfd"},
		"/dev/null":       {"/dev/null"},
		"/dev/sda":        nil,
	} {
		found := devices(func(pattern string) ([]string, error) {
			if matches, err := filepath.Match(pattern, device); !matches || err != nil {
				return nil, err
			}
			return []string{device}, nil
		})
		assert.Equal(t, want, found, device)
	}
}
