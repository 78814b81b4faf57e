package gguf

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
)

// shardName is what llama.cpp names the files of a split set (llama_split_path in
// src/llama.cpp).
var shardName = regexp.MustCompile(`(?s)^(.+)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// ShardName takes apart the base name of a file of a split set: "llama-00001-of-00003.gguf"
// has the prefix "llama", the no 1 and the count 3. ok is false for any other name.
func ShardName(base string) (prefix string, no, count int, ok bool) {
	parts := shardName.FindStringSubmatch(base)
	if parts == nil {
		return "", 0, 0, false
	}
	no, _ = strconv.Atoi(parts[2]) // five digits: cannot fail
	count, _ = strconv.Atoi(parts[3])
	if no < 1 || no > count {
		return "", 0, 0, false
	}
	return parts[1], no, count, true
}

// ShardPath returns the name of file no, from 1, of the count files of a split set; prefix
// may begin with a directory.
func ShardPath(prefix string, no, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, no, count)
}

// ReadSet reads the headers of a split set, all its files in order, and returns one Header
// for the whole. One file that is not split is a set, too. It fails as Read does, and if the
// files do not belong together.
func ReadSet(paths []string) (*Header, error) {
	var set *Header
	for i, path := range paths {
		shard, err := Read(path)
		if err != nil {
			return nil, err
		}
		if err := shard.belongs(i, len(paths)); err != nil {
			return nil, fmt.Errorf("%q: %w", path, err)
		}
		if set == nil {
			set = shard
			continue
		}
		set.Tensors = append(set.Tensors, shard.Tensors...)
		set.Parameters += shard.Parameters
		set.Size += shard.Size
	}
	if set == nil {
		return nil, errors.New("reading a model's headers: no file given")
	}
	if set.splitTensors > 0 && len(paths) > 1 && int64(len(set.Tensors)) != set.splitTensors {
		return nil, fmt.Errorf("the set of %q has %d tensors in its files, but %d by its header: the files do not belong to one model", paths[0], len(set.Tensors), set.splitTensors)
	}
	if len(paths) > 1 {
		set.offsets = nil
	}
	set.completeShape()
	set.nameFormat()
	return set, nil
}

// belongs checks a file's own word against its place, from 0, in a set of count.
func (h *Header) belongs(place, count int) error {
	switch {
	case count == 1 && h.SplitCount > 1:
		return fmt.Errorf("it is file %d of a set of %d by its header, which its name does not say: give it its name back (%s)", h.SplitNo+1, h.SplitCount, filepath.Base(ShardPath("NAME", h.SplitNo+1, h.SplitCount)))
	case count > 1 && (h.SplitCount != count || h.SplitNo != place):
		return fmt.Errorf("its name says file %d of %d and its header says file %d of %d: it belongs to another set", place+1, count, h.SplitNo+1, h.SplitCount)
	}
	return nil
}
