package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// step is what is read between two looks at the context.
const step = 1 << 20

// Hash returns the SHA-256, in hexadecimal, and the size of a regular file. It stops soon after ctx ends,
// with an error that wraps its cause, and calls read (nil: nobody), from the caller's
// goroutine, with the bytes read so far.
func Hash(ctx context.Context, path string, read func(bytes int64)) (sum string, bytes int64, err error) {
	return HashInto(ctx, path, io.Discard, read)
}

// HashInto is Hash that writes what it reads to a writer as well.
func HashInto(ctx context.Context, path string, into io.Writer, read func(bytes int64)) (sum string, bytes int64, err error) {
	file, _, err := OpenRegular(path)
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

// OpenRegular opens a regular file for reading. It fails, and waits for nobody, where the path
// leads to something else: to open a FIFO would wait for somebody who writes to it.
func OpenRegular(path string) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("reading %s: it is not a regular file", path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// ReadSmall reads a regular file of at most so many bytes; see OpenRegular.
func ReadSmall(path string, most int64) ([]byte, error) {
	file, _, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return content, nil
}

// Sync puts a file, or the names in a directory, on the disk. Where the file system cannot do
// so with directories, as SMB and some on FUSE, it leaves the names to it.
func Sync(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil {
		err = file.Sync()
	}
	if info != nil && info.IsDir() && unsupported(err) {
		err = nil
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing %s to the disk: %w", path, err)
	}
	return nil
}
