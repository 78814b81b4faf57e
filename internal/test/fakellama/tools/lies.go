package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// lie is what a copy can be made wrong of.
type lie struct {
	source, copied model
	input, output  string
	help           string
	fileType       uint32 // that was asked for
}

// lieAboutCopy leaves something else than the copy where that is due, and reports whether it did.
func (f *fake) lieAboutCopy(do fakellama.Do, l lie) bool {
	m, fileType := l.copied, l.fileType
	switch do {
	case fakellama.OtherFormat, fakellama.HiddenFormat:
		m.tensors = nil
		for _, t := range l.source.tensors {
			t.kind = target(t, "Q8_0")
			m.tensors = append(m.tensors, t)
		}
		if do == fakellama.OtherFormat {
			fileType, _ = typeNumber(l.help, "Q8_0") // which every help lists
		}
	case fakellama.FewerTensors:
		m.tensors = m.tensors[:len(m.tensors)-1]
	case fakellama.TensorTwice:
		m.tensors = append(slices.Clip(m.tensors), m.tensors[0])
	case fakellama.OtherShape:
		m.tensors = append([]tensor(nil), m.tensors...)
		m.tensors[0].dimensions = []int64{m.tensors[0].dimensions[0], 2 * m.tensors[0].dimensions[1]}
	case fakellama.OtherArchitecture, fakellama.OtherVocabulary:
		m.metadata = otherMetadata(m.metadata, do)
	case fakellama.SecondName, fakellama.MoreBehindTheEnd, fakellama.HoleBehindTheEnd:
	case fakellama.TheSource:
		f.must(copyFile(l.input, l.output))
		return true
	case fakellama.LinkToTheSource:
		f.must(os.Symlink(l.input, l.output))
		return true
	case fakellama.NameOfTheSource:
		f.must(os.Link(l.input, l.output))
		return true
	default:
		return f.leave(do, l.output)
	}
	m.setFileType(fileType)
	f.must(m.write(l.output))
	switch do {
	case fakellama.SecondName:
		f.must(os.Link(l.output, l.output+".other"))
	case fakellama.MoreBehindTheEnd:
		f.must(grow(l.output, 30e6))
	case fakellama.HoleBehindTheEnd:
		f.must(grow(l.output, 1e12))
	}
	return true
}

// leave leaves something that no tool would leave where that is due, and reports whether it did.
func (f *fake) leave(do fakellama.Do, output string) bool {
	switch do {
	case fakellama.EmptyFile:
		f.must(os.WriteFile(output, nil, 0o600))
	case fakellama.Fifo:
		f.must(syscall.Mkfifo(output, 0o600))
	case fakellama.Folder:
		f.must(os.Mkdir(output, 0o700))
	case fakellama.Device:
		f.must(os.Symlink("/dev/zero", output))
	case fakellama.HoleOfPredictions:
		f.must(os.WriteFile(output, []byte("_logits_"), 0o600))
		f.must(grow(output, 100e9))
	default:
		return false
	}
	return true
}

// otherMetadata returns metadata of the same length that say something else.
func otherMetadata(metadata []entry, do fakellama.Do) []entry {
	var all []entry
	for _, e := range metadata {
		value := string(e.value)
		switch {
		case do == fakellama.OtherArchitecture && e.key == "general.architecture":
			value = strings.Replace(value, "llama", "qwen3", 1)
		case do == fakellama.OtherVocabulary && e.key == "tokenizer.ggml.model":
			value = strings.NewReplacer("llama", "plamo", "gpt2", "bert").Replace(value)
		}
		all = append(all, entry{e.key, []byte(value)})
	}
	return all
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}

// grow lengthens a file by a hole.
func grow(path string, bytes int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()+bytes)
}

func (f *fake) must(err error) {
	if err != nil {
		f.fail(err.Error())
	}
}
