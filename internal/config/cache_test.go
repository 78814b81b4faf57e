package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestCache(t *testing.T) {
	assert.Empty(t, config.DefaultCache().Validate())
	assert.Len(t, config.Cache{Size: -1}.Validate(), 1)
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Size{"0": 0, "10GB": 10e9, "512MiB": 512 << 20, "1.5GB": 15e8, "7B": 7} {
		var got config.Size
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "10", "GB", "10 GB", "ten"} {
		assert.Error(t, new(config.Size).UnmarshalText([]byte(text)), "%q", text)
	}
}

// A size that was written reads back as the same.
func FuzzSize(f *testing.F) {
	for _, text := range []string{"0", "10GB", "512MiB", "1GB1MB", "1.5GB", "-1GB", "9223372036854775807B", strings.Repeat("9", 40) + "EB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s config.Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		written, err := s.MarshalText()
		require.NoError(t, err)
		var again config.Size
		if s >= 0 { // what is below is refused, and only named
			require.NoError(t, again.UnmarshalText(written), "%q", written)
			require.Equal(t, s, again, "%q", written)
		}
	})
}
