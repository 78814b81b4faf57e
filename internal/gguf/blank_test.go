package gguf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

// blank has a file looked at in pieces of some size.
func blank(t *testing.T, header *gguf.Header, data []byte, piece int) error {
	t.Helper()
	b := header.NewBlank()
	for len(data) > 0 {
		n, err := b.Write(data[:min(piece, len(data))])
		require.NoError(t, err)
		data = data[n:]
	}
	return b.Err()
}

// The tensors of the tiny model, all F16, begin behind its header of about 20 kB:
// token_embd 256 kB, then of the block attn_q 128, attn_k 64, attn_v 64, attn_output 128,
// ffn_gate 256, ffn_up 256, ffn_down 256.
func TestRegionsOfZeros(t *testing.T) {
	path := gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(t.TempDir(), "m.gguf"))
	header, err := gguf.Read(path)
	require.NoError(t, err)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	end := len(whole)
	data := end - int(header.TensorBytes())

	const kB = 1024
	tests := map[string]struct {
		from, to int
		want     string // "" is fine
	}{
		"nothing":                     {0, 0, ""},
		"all weights":                 {data, end, "8 of its tensors should be, from \"token_embd.weight\""},
		"from 30 % on":                {end * 3 / 10, end, "from \"blk.0.attn_k.weight\" on"},
		"a hole in the middle":        {data + 400*kB, data + 700*kB, "from \"blk.0.attn_k.weight\" on"},
		"one matrix":                  {data + 257*kB, data + 257*kB + 128*kB, ""},
		"the last matrix":             {end - 257*kB, end, ""},
		"within one matrix":           {end - 200*kB, end - 10*kB, ""},
		"parts of two":                {data + 200*kB, data + 300*kB, ""},
		"all but a byte in each page": {0, 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			holed := append([]byte(nil), whole...)
			clear(holed[tt.from:tt.to])
			if name == "all but a byte in each page" {
				clear(holed[data:])
				for i := data; i < end; i += 4096 {
					holed[i] = 1
				}
			}
			for _, piece := range []int{1 << 20, 4096, 1000, end} {
				err := blank(t, header, holed, piece)
				if tt.want == "" {
					require.NoError(t, err, piece)
					continue
				}
				require.ErrorIs(t, err, gguf.ErrIncomplete)
				assert.ErrorContains(t, err, tt.want, piece)
			}
		})
	}
}

func TestNothingIsMissingToNoModel(t *testing.T) {
	b := &gguf.Blank{}
	_, err := b.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, b.Err())
}
