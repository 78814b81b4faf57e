package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// CorpusID says which text it was.
type CorpusID struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // in hexadecimal
}

// corpusFile is the text in the working directory.
const corpusFile = "corpus.txt"

// mostText bounds the text that quality is evaluated on, in bytes: llama-perplexity reads and splits
// all of it, however few chunks it evaluates.
const mostText = 1 << 30

// CheckCorpus returns the size, in bytes, of the text that quality is evaluated on. It fails where
// there is no file that can be read, or one that is too large for a text.
func CheckCorpus(path string) (int64, error) {
	file, size, err := openCorpus(path)
	if err != nil {
		return 0, err
	}
	return size, file.Close()
}

func openCorpus(path string) (*os.File, int64, error) {
	file, info, err := disk.OpenRegular(path)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: name the file of a text", err)
	}
	if size := info.Size(); size > mostText {
		_ = file.Close() // which was read only
		return nil, 0, fmt.Errorf("%s has %d bytes, all of which llama-perplexity would read: name a part of it, of %d at most", path, size, mostText)
	}
	return file, info.Size(), nil
}

// copyCorpus copies the text, so that what is evaluated on is what the hash says.
func copyCorpus(from, to string) (id CorpusID, err error) {
	source, _, err := openCorpus(from)
	if err != nil {
		return id, Failf(ReasonEvaluate, "quality.corpus: %w", err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return id, err
	}
	defer func() {
		if closing := target.Close(); err == nil {
			err = closing
		}
	}()
	hash := sha256.New()
	if id.Bytes, err = io.Copy(io.MultiWriter(target, hash), source); err != nil {
		return id, fmt.Errorf("copying %s into the working folder: %w", from, err)
	}
	id.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return id, nil
}
