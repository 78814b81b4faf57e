package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive packs a directory below work into a tar.gz of its name: files in the order of their
// names, owned by root, dated as the commit.
func (m *maker) archive(folder string) (err error) {
	file, err := os.Create(filepath.Join(m.out, folder+".tar.gz"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(packed)
	err = filepath.WalkDir(filepath.Join(m.work, folder), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return m.add(archive, path)
	})
	return errors.Join(err, archive.Close(), packed.Close())
}

// add adds a file below work.
func (m *maker) add(archive *tar.Writer, path string) error {
	name, err := filepath.Rel(m.work, path)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	err = archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Size: int64(len(content)),
		Mode: int64(info.Mode().Perm()), ModTime: m.date(), Format: tar.FormatPAX,
	})
	if err != nil {
		return err
	}
	_, err = archive.Write(content)
	return err
}

const sumsFile = "SHA256SUMS"

// sums writes the sums of all files of a directory, as sha256sum -c takes them.
func sums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), []byte(text.String()), 0o644)
}
