package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// disk is what makes a publication visible and lasting. Tests watch it, and are killed
// within.
type disk struct {
	sync   func(path string) error // of a file, or of the names in a directory
	rename func(from, to string) error
}

func realDisk() disk { return disk{syncPath, os.Rename} }

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s to the disk: %w", path, err)
	}
	return nil
}

// makeDirs makes a directory below the one to publish in, and those between, and sees that
// their names last: whoever made them may have been killed before that.
func (d *Directory) makeDirs(dir string) error {
	below, err := filepath.Rel(d.path, dir)
	if err != nil {
		return err
	}
	at := d.path
	for part := range strings.SplitSeq(below, string(filepath.Separator)) {
		parent := at
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := d.disk.sync(parent); err != nil {
			return err
		}
	}
	return nil
}

// hashed is what is read between two looks at the context.
const hashed = 4 << 20

// Hash gives the SHA-256, in hexadecimal, and the size of files after each other.
func Hash(ctx context.Context, files ...string) (sum string, bytes int64, err error) {
	hash := sha256.New()
	for _, file := range files {
		n, err := hashFile(ctx, hash, file)
		if err != nil {
			return "", 0, err
		}
		bytes += n
	}
	return hex.EncodeToString(hash.Sum(nil)), bytes, nil
}

func hashFile(ctx context.Context, hash io.Writer, file string) (bytes int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := io.CopyN(hash, f, hashed)
		bytes += n
		if errors.Is(err, io.EOF) {
			return bytes, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
