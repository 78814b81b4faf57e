package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// step is what is read between two looks at the context.
const step = 1 << 20

// Hash is the SHA-256, in hexadecimal, and the size of a file. It stops soon after ctx ends,
// with an error that wraps its cause, and calls read (nil: nobody), from the caller's
// goroutine, with the bytes read so far.
func Hash(ctx context.Context, path string, read func(bytes int64)) (sum string, bytes int64, err error) {
	return HashInto(ctx, path, io.Discard, read)
}

// HashInto is Hash that writes what it reads to a writer as well.
func HashInto(ctx context.Context, path string, into io.Writer, read func(bytes int64)) (sum string, bytes int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	hash, buffer := sha256.New(), make([]byte, step)
	all := io.MultiWriter(hash, into)
	for {
		if ctx.Err() != nil {
			return "", 0, fmt.Errorf("reading %s: %w", path, context.Cause(ctx))
		}
		n, err := file.Read(buffer)
		if _, err := all.Write(buffer[:n]); err != nil {
			return "", 0, fmt.Errorf("looking at %s: %w", path, err)
		}
		bytes += int64(n)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), bytes, nil
		}
		if err != nil {
			return "", 0, fmt.Errorf("reading %s: %w", path, err)
		}
		if read != nil {
			read(bytes)
		}
	}
}

// Sync puts a file, or the names in a directory, on the disk.
func Sync(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("writing %s to the disk: %w", path, err)
	}
	return nil
}
