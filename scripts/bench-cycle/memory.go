package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

// largeModelMemory runs a cycle on a sparse file with the header of a model of 8
// billion parameters and a vocabulary of 152k, with the tests' fake tools (no host
// holds the real thing here), and gives our own process's peak memory.
func largeModelMemory(binary, dir string) (size int64, m *measured, err error) {
	tools := filepath.Join(dir, "fake")
	for _, tool := range fakellama.Tools {
		build := exec.Command("go", "build", "-o", filepath.Join(tools, tool), "./internal/test/fakellama/tools")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return 0, nil, fmt.Errorf("building the fake %s: %w", tool, err)
		}
	}
	model := gguftest.Model(gguftest.Shape{
		Weights: gguf.F16, FileType: 1, Vocabulary: 152_064, Embedding: 4096, FeedForward: 14_336, Blocks: 32, Heads: 32, KVHeads: 8,
	})
	path := filepath.Join(dir, "8b.gguf")
	header, size := model.Header()
	defer os.Remove(path)
	if err := sparse(path, header, size); err != nil {
		return 0, nil, err
	}
	m, err = cycle(binary, tools, path, dir)
	return size, m, err
}

// sparse makes a file of a header and holes, but for a byte in every matrix: a matrix of zeros
// was not downloaded. None of the model's matrices is smaller than a step.
func sparse(path string, header []byte, size int64) error {
	const step = 4 << 20
	if err := os.WriteFile(path, header, 0o600); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	for at := int64(len(header)); at < size; at += step {
		if _, err := file.WriteAt([]byte{0x2a}, at); err != nil {
			return err
		}
	}
	if err := file.Truncate(size); err != nil {
		return err
	}
	return file.Close()
}
