package model_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

// models is a model directory to fill.
type models struct {
	t   *testing.T
	dir string
}

func newModels(t *testing.T) models {
	return models{t, filepath.Join(t.TempDir(), "models")}
}

func (m models) path(name string) string { return filepath.Join(m.dir, name) }

// model writes a tiny model.
func (m models) model(name string) string {
	m.t.Helper()
	return gguftest.Model(gguftest.Tiny()).Write(m.t, m.path(name))
}

// of writes a tiny model with one metadata value changed.
func (m models) of(name, key string, value any) {
	m.t.Helper()
	file := gguftest.Model(gguftest.Tiny())
	for i := range file.Metadata {
		if file.Metadata[i].Key == key {
			file.Metadata[i].Value = value
		}
	}
	file.Write(m.t, m.path(name))
}

// split writes some files of a split set.
func (m models) split(prefix string, count int, numbers ...int) {
	m.t.Helper()
	for _, no := range numbers {
		files := gguftest.Split(gguftest.Model(gguftest.Tiny()), count)
		files[no-1].Write(m.t, m.path(gguf.ShardPath(prefix, no, count)))
	}
}

func (m models) text(name, text string) {
	m.t.Helper()
	require.NoError(m.t, os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	require.NoError(m.t, os.WriteFile(m.path(name), []byte(text), 0o644))
}

// link makes a symbolic link.
func (m models) link(target, name string) {
	m.t.Helper()
	require.NoError(m.t, os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	require.NoError(m.t, os.Symlink(target, m.path(name)))
}

func (m models) discover() model.Found {
	m.t.Helper()
	found, err := model.Discover(m.dir, false, nil)
	require.NoError(m.t, err)
	return found
}

func names(models []model.Model) []string {
	var names []string
	for _, model := range models {
		names = append(names, model.Name)
	}
	return names
}

func skipped(found model.Found) map[string]string {
	reasons := map[string]string{}
	for _, s := range found.Skipped {
		reasons[s.Name] = s.Reason
	}
	return reasons
}

func TestDiscoverNames(t *testing.T) {
	tests := []struct {
		name string
		make func(models)
		want []string
	}{
		{"recursively, by relative path", func(m models) {
			m.model("b.gguf")
			m.model("a/b.gguf")
			m.model("a/c/b.gguf")
		}, []string{"a/b", "a/c/b", "b"}},
		{"other files do not count", func(m models) {
			m.model("a.gguf")
			m.text("README.md", "hello")
			m.model("b.GGUF")
			m.model("c.gguf.part")
			m.model("d.gguf.tmp")
			m.model("e.gguf.incomplete")
			m.model("f.gguf.download")
			require.NoError(m.t, os.Mkdir(m.path("g.gguf"), 0o755))
		}, []string{"a"}},
		{"hidden files and directories", func(m models) {
			m.model("a.gguf")
			m.model(".b.gguf")
			m.model(".cache/c.gguf")
			m.model(".gguf")
		}, []string{"a"}},
		{"names that are awkward elsewhere", func(m models) {
			m.model("a, b.gguf")
			m.model("new\nline.gguf")
			m.model("模型 ü/-rf.gguf")
			m.model("[x]*?.gguf")
			m.model(`"quoted" 'twice'.gguf`)
		}, []string{`"quoted" 'twice'`, "[x]*?", "a, b", "new\nline", "模型 ü/-rf"}},
		{"two that differ where no name can", func(m models) {
			m.model("a\xff.gguf")
			m.model(`a\xff.gguf`)
			m.model("a\xfe.gguf")
		}, []string{`a\x5cxff`, `a\xfe`, `a\xff`}},
		{"a split set is one model", func(m models) {
			m.split("llama", 3, 1, 2, 3)
			m.split("llama", 2, 1, 2)
			m.split("sub/llama", 2, 1, 2)
			m.split("one", 1, 1)
		}, []string{"llama-00001-of-00002", "llama-00001-of-00003", "one-00001-of-00001", "sub/llama-00001-of-00002"}},
		{"a hard link is the first of its names", func(m models) {
			m.model("b.gguf")
			require.NoError(m.t, os.Link(m.path("b.gguf"), m.path("a.gguf")))
		}, []string{"a"}},
		{"a symbolic link is named by its target", func(m models) {
			m.model("z.gguf")
			m.link("z.gguf", "a.gguf")
			m.link(m.path("z.gguf"), "b/absolute.gguf")
		}, []string{"z"}},
		{"links to outside are named by the link", func(m models) {
			outside := newModels(m.t)
			outside.model("blob")
			require.NoError(m.t, os.Rename(outside.path("blob"), outside.path("sha256")))
			m.link(outside.path("sha256"), "b.gguf")
			m.link(outside.path("sha256"), "a.gguf")
		}, []string{"a"}},
		{"links to directories are followed", func(m models) {
			outside := newModels(m.t)
			outside.model("a/x.gguf")
			m.link(outside.dir, "out")
			m.link(outside.path("a"), "a")
		}, []string{"a/x"}},
		{"links in a loop", func(m models) {
			m.model("d/a.gguf")
			m.link("..", "d/up")
			m.link(".", "d/self")
			m.link("d", "e")
			m.link("loop2", "loop1")
			m.link("loop1", "loop2")
			m.link(m.dir, "d/root")
		}, []string{"d/a"}},
		{"two snapshots that share a shard", func(m models) {
			blobs := newModels(m.t)
			blobs.split("x", 2, 1, 2)
			blobs.split("y", 2, 1, 2)
			for _, snapshot := range []string{"x", "y"} {
				m.link(blobs.path(gguf.ShardPath(snapshot, 1, 2)), gguf.ShardPath(snapshot+"/m", 1, 2))
				m.link(blobs.path(gguf.ShardPath("x", 2, 2)), gguf.ShardPath(snapshot+"/m", 2, 2))
			}
		}, []string{"x/m-00001-of-00002", "y/m-00001-of-00002"}},
		{"a split set behind a link", func(m models) {
			m.split("real/m", 2, 1, 2)
			m.link("real", "alias")
			m.link("real/m-00001-of-00002.gguf", "m-00001-of-00002.gguf")
			m.link("real/m-00002-of-00002.gguf", "m-00002-of-00002.gguf")
		}, []string{"real/m-00001-of-00002"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newModels(t)
			require.NoError(t, os.MkdirAll(m.dir, 0o755))
			tt.make(m)
			found := m.discover()
			assert.Equal(t, tt.want, names(found.Models))
			assert.Equal(t, found, m.discover(), "a second look")
			for _, model := range found.Models {
				assert.True(t, filepath.IsAbs(model.Path))
				assert.Equal(t, model.Path, model.Files[0])
				assert.Equal(t, model.Header.Size, model.Size)
				require.NoError(t, model.Err)
			}
		})
	}
}

func TestSplitSetCountsAllItsFiles(t *testing.T) {
	m := newModels(t)
	m.split("m", 3, 3, 1, 2)
	whole, err := gguf.Read(m.model("whole.gguf"))
	require.NoError(t, err)
	found := m.discover()
	require.Len(t, found.Models, 2)
	set := found.Models[0]
	assert.Equal(t, []string{m.path("m-00001-of-00003.gguf"), m.path("m-00002-of-00003.gguf"), m.path("m-00003-of-00003.gguf")}, set.Files)
	assert.Equal(t, whole.Parameters, set.Header.Parameters)
	assert.Len(t, set.Header.Tensors, len(whole.Tensors))
}

// passedOver makes one of every file that is not a model.
func passedOver(m models) {
	m.of("adapter.gguf", "general.type", "adapter")
	m.of("mmproj.gguf", "general.type", "mmproj")
	m.of("clip.gguf", "general.architecture", "clip")
	m.of("imatrix.gguf", "general.type", "imatrix")
	m.of("vector.gguf", "general.architecture", "controlvector")
	m.of("other.gguf", "general.type", "diffusion")

	vocabulary := gguftest.Model(gguftest.Tiny())
	vocabulary.Tensors = nil
	vocabulary.Write(m.t, m.path("vocab.gguf"))
	flux := gguftest.Model(gguftest.Tiny())
	flux.Tensors = flux.Tensors[1:]
	flux.Write(m.t, m.path("flux.gguf"))
	quantized := gguftest.Tiny()
	quantized.Weights, quantized.FileType = gguf.Q8_0, 7
	gguftest.Model(quantized).Write(m.t, m.path("quantized.gguf"))

	m.text("garbage.gguf", "<html>404 Not Found</html>")
	m.text("empty.gguf", "")
	m.text("half.gguf", "\x00\x00\x00\x00 the rest")
	require.NoError(m.t, os.Truncate(m.model("cut.gguf"), 100_000))
	m.split("set", 3, 2)
	m.age("set", 3, 2)
	m.link("nowhere", "dangling.gguf")
	m.split("renamed", 2, 2)
	require.NoError(m.t, os.Rename(m.path("renamed-00002-of-00002.gguf"), m.path("renamed.gguf")))
}

func TestPassedOverWithAReason(t *testing.T) {
	m := newModels(t)
	m.model("good.gguf")
	passedOver(m)
	var log bytes.Buffer
	found, err := model.Discover(m.dir, false, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	assert.Equal(t, []string{"good"}, names(found.Models))

	tests := []struct {
		name   string
		want   string
		broken bool // comes back with its Err set when asked for
		globs  bool // and when a glob fits it
	}{
		{"adapter", "a LoRA adapter", false, false},
		{"mmproj", "a multimodal projector", false, false},
		{"clip", "a multimodal projector", false, false},
		{"imatrix", "an importance matrix", false, false},
		{"vector", "a control vector", false, false},
		{"other", `"diffusion"`, false, false},
		{"vocab", "without tensors", false, false},
		{"flux", "without a token embedding", false, false},
		{"quantized", "quantized already (Q8_0)", false, false},
		{"garbage", `begins with "<htm"`, true, true},
		{"empty", "ends after 0 bytes", true, false},
		{"half", "half-written", true, false},
		{"cut", "the file has 100000", true, false},
		{"set-00001-of-00003", `"set-00001-of-00003.gguf", "set-00003-of-00003.gguf"`, true, true},
		{"dangling", "no such file", true, true},
		{"renamed", "file 2 of a set of 2", true, true},
	}
	reasons := skipped(found)
	assert.Len(t, reasons, len(tests))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Contains(t, reasons[tt.name], tt.want)
			assert.Contains(t, log.String(), "name="+tt.name)

			for _, ask := range []string{tt.name, tt.name + ".gguf", m.path(tt.name + ".gguf")} {
				if ask != tt.name && tt.name == "dangling" || ask != tt.name && tt.name == "set-00001-of-00003" {
					continue // there is no such file
				}
				selected, err := found.Select([]string{ask, "good"})
				if !tt.broken {
					require.ErrorContains(t, err, tt.want)
					require.ErrorContains(t, err, m.path(tt.name))
					continue
				}
				require.NoError(t, err)
				require.Len(t, selected, 2)
				broken := selected[0]
				if broken.Name == "good" {
					broken = selected[1]
				}
				require.ErrorContains(t, broken.Err, tt.want)
			}
		})
	}

	all, err := found.Select(nil)
	require.NoError(t, err)
	var want []string
	for _, tt := range tests {
		if tt.globs {
			want = append(want, tt.name)
		}
	}
	assert.ElementsMatch(t, append(want, "good"), names(all))
}

// headers of what lies beside models and cannot be a source: changes of a tiny model.
func TestOnlyWhatGeneratesTextIsASource(t *testing.T) {
	set := func(key string, value any) func(*gguftest.File) {
		return func(f *gguftest.File) {
			for i := range f.Metadata {
				if f.Metadata[i].Key == key {
					f.Metadata[i].Value = value
					return
				}
			}
			f.Metadata = append(f.Metadata, gguftest.Pair{Key: key, Value: value})
		}
	}
	architecture := func(name string) func(*gguftest.File) { return set("general.architecture", name) }
	tensor := func(name string) func(*gguftest.File) {
		return func(f *gguftest.File) {
			f.Tensors = append(f.Tensors, gguftest.Tensor{Name: name, Type: gguf.F16, Dims: []uint64{256, 256}})
		}
	}
	block := func(number string) func(*gguftest.File) {
		return func(f *gguftest.File) {
			for i := range f.Tensors {
				f.Tensors[i].Name = strings.Replace(f.Tensors[i].Name, "blk.0.", number, 1)
			}
		}
	}
	both := func(changes ...func(*gguftest.File)) func(*gguftest.File) {
		return func(f *gguftest.File) {
			for _, change := range changes {
				change(f)
			}
		}
	}
	tests := []struct {
		name   string
		change func(*gguftest.File)
		want   string // "" is a source
	}{
		{"bert", architecture("bert"), "an embedding model"},
		{"modern-bert", architecture("modern-bert"), "an embedding model"},
		{"nomic-bert-moe", architecture("nomic-bert-moe"), "an embedding model"},
		{"jina-bert-v3", architecture("jina-bert-v3"), "an embedding model"},
		{"eurobert", architecture("eurobert"), "an embedding model"},
		{"gemma-embedding", architecture("gemma-embedding"), "an embedding model"},
		{"gemma-embedding2", architecture("gemma-embedding2"), "an embedding model"},
		{"llama-embed", architecture("llama-embed"), "an embedding model"},
		{"t5encoder", architecture("t5encoder"), "an embedding model"},
		{"a decoder that pools", set("llama.pooling_type", uint32(3)), "an embedding model"},
		{"a reranker", set("llama.pooling_type", uint32(4)), "an embedding model"},
		{"a classifier", tensor("cls.output.weight"), "an embedding model"},
		{"segments, as BERT has", tensor("token_types.weight"), "an embedding model"},
		{"an encoder of a new kind", block("enc.blk.0."), "an embedding model"},
		{"t5", architecture("t5"), "an encoder and a decoder"},
		{"an encoder and a decoder of a new kind", both(block("dec.blk.0."), tensor("enc.blk.0.attn_q.weight")), "an encoder and a decoder"},
		{"attention both ways", set("llama.attention.causal", false), "attention goes both ways"},
		{"llada-moe", architecture("llada-moe"), "attention goes both ways"},
		{"gemma4-assistant", architecture("gemma4-assistant"), "a draft head"},
		{"eagle3", architecture("eagle3"), "a draft head"},
		{"dflash", architecture("dflash"), "a draft head"},
		{"all blocks predict later tokens", set("llama.nextn_predict_layers", uint32(1)), "a draft head"},
		{"a head that is called as its model is", both(set("llama.block_count", uint32(48)), block("blk.47.")), "without the first of its blocks"},
		{"the first block is one of the head", tensor("blk.0.nextn.eh_proj.weight"), "a draft head"},
		{"tokens of the head and of the model", tensor("d2t"), "a draft head"},
		{"wavtokenizer-dec", architecture("wavtokenizer-dec"), "a vocoder"},
		{"clip", architecture("clip"), "a multimodal projector"},
		{"no tokenizer", set("tokenizer.ggml.model", "none"), "without a tokenizer"},

		{"llama", both(), ""},
		{"newer than this program", architecture("k3-horizon"), ""},
		{"pangu-embedded", architecture("pangu-embedded"), ""},
		{"attention looks back", set("llama.attention.causal", true), ""},
		{"no pooling", set("llama.pooling_type", uint32(0)), ""},
		{"a model with a head of its own", both(set("llama.block_count", uint32(2)), set("llama.nextn_predict_layers", uint32(1)), tensor("blk.1.nextn.eh_proj.weight")), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newModels(t)
			file := gguftest.Model(gguftest.Tiny())
			tt.change(&file)
			path := file.Write(t, m.path("m.gguf"))
			found := m.discover()
			if tt.want == "" {
				assert.Equal(t, []string{"m"}, names(found.Models), skipped(found))
				return
			}
			assert.Empty(t, found.Models)
			assert.Contains(t, skipped(found)["m"], tt.want)
			_, err := found.Select([]string{"m"})
			require.ErrorContains(t, err, tt.want)
			_, err = model.Found{}.Select([]string{path})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// A model that others quantized, or that has yet to be brought, is beside good ones on many
// a disk: patterns say nothing of it, and the page does.
func TestWhatLlamaCppDoesNotReadIsPassedOverQuietly(t *testing.T) {
	m := newModels(t)
	m.model("good.gguf")
	for name, kind := range map[string]gguf.Type{"removed": 31, "arm": 38, "ik": 144, "ik-r4": 344, "newer": 60} {
		file := gguftest.Model(gguftest.Tiny())
		file.Tensors[1].Type = kind
		file.Write(t, m.path(name+".gguf"))
	}
	m.text("version1.gguf", "GGUF\x01\x00\x00\x00"+strings.Repeat("\x00", 16))
	m.text("big.gguf", "GGUF\x00\x00\x00\x03"+strings.Repeat("\x00", 16))
	m.text("lfs.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:4c1c\nsize 7898464\n")
	m.text("annex.gguf", "/annex/objects/SHA256E-s7898464--4c1c.gguf\n")
	damaged := gguftest.Model(gguftest.Tiny())
	damaged.Tensors[1].Type = 1 << 30
	damaged.Write(t, m.path("damaged.gguf"))

	found := m.discover()
	all, err := found.Select([]string{"*"})
	require.NoError(t, err)
	assert.Equal(t, []string{"damaged", "good"}, names(all), "what is damaged is to be seen")
	entry := config.Entry{Models: []string{"*", "ik"}, Targets: []string{"Q2_K"}}
	var passed []string
	plan := model.NewPlan([]config.Entry{entry}, found, nil)
	for _, s := range plan.PassedOver {
		passed = append(passed, s.Name)
	}
	assert.Equal(t, []string{"annex", "arm", "big", "ik-r4", "lfs", "newer", "removed", "version1"}, passed, "what an entry names is among its models")

	for name, want := range map[string]string{
		"removed":  "type 31, not a file for llama.cpp: llama.cpp no longer has it (it was Q4_0_4_4); get or make the model as Q4_0",
		"ik":       "ik_llama.cpp uses such numbers for its own types",
		"newer":    "newer than this one",
		"version1": "convert the model again",
		"lfs":      "a pointer of Git LFS, which stands in for the model until that is brought: run `git lfs pull`",
		"annex":    "run `git annex get`",
		"damaged":  "the file is damaged",
	} {
		selected, err := found.Select([]string{name})
		require.NoError(t, err, name)
		require.ErrorContains(t, selected[0].Err, want)
	}
}

func TestQuantizedModelsOnRequest(t *testing.T) {
	m := newModels(t)
	passedOver(m)
	found, err := model.Discover(m.dir, true, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"quantized"}, names(found.Models))
}

// What cycles made lies below the model folder where somebody put the working folder there.
func TestFoldersThatHoldNoModels(t *testing.T) {
	m := newModels(t)
	m.model("a.gguf")
	m.model("work/cycle-0123456789abcdef/original.gguf")
	m.text("work/cycle-0123456789abcdef.lock", "")
	m.model("work/left.gguf")
	m.model("other/cycle-0123456789abcdef/Q8_0.gguf") // of another exporter
	m.text("other/cycle-0123456789abcdef.lock", "")
	m.model("cycle-00000000000000aa/of-somebody.gguf") // no lock: a folder like any other
	outside := newModels(t)
	outside.model("published/x.gguf")
	outside.model("y.gguf")
	m.link("work", "alias")
	m.link("work/left.gguf", "b.gguf")
	m.link("other/cycle-0123456789abcdef", "c")
	m.link("other/cycle-0123456789abcdef/Q8_0.gguf", "d.gguf")
	m.link(outside.dir, "e")
	m.link(m.path("work"), "work-link")

	for _, work := range []string{m.path("work"), m.path("work-link")} {
		found, err := model.Discover(m.dir, false, nil, work, outside.path("published"), "", m.path("none"))
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "cycle-00000000000000aa/of-somebody", "e/y"}, names(found.Models))
		assert.Empty(t, found.Skipped)
	}
	for _, work := range []string{m.dir, filepath.Dir(m.dir)} {
		found, err := model.Discover(m.dir, false, nil, work)
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "cycle-00000000000000aa/of-somebody", "e/published/x", "e/y", "work/left"}, names(found.Models), "models lie in it")
	}
}

func TestDirectoryThatCannotBeSearched(t *testing.T) {
	m := newModels(t)
	_, err := model.Discover(m.dir, false, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, m.dir)
	require.ErrorContains(t, err, "--model-dir")

	_, err = model.Discover(m.model("a.gguf"), false, nil)
	require.ErrorContains(t, err, "is not a folder")

	found, err := model.Discover("", false, nil)
	require.NoError(t, err)
	assert.Empty(t, found.Models)
}

func TestSelect(t *testing.T) {
	m := newModels(t)
	m.model("tiny.gguf")
	m.model("a/tiny.gguf")
	m.model("a/Large-F16.gguf")
	m.model("[1].gguf")
	m.split("a/set", 2, 1, 2)
	m.model("hidden/.secret.gguf")
	m.link("a", "alias")
	m.link("a/tiny.gguf", "linked.gguf")
	outside := newModels(t)
	outside.model("tiny.gguf")
	t.Chdir(m.dir)
	found := m.discover()

	const set = "a/set-00001-of-00002"
	all := []string{"[1]", "a/Large-F16", set, "a/tiny", "tiny"}
	tests := []struct {
		patterns []string
		want     []string
	}{
		{nil, all},
		{[]string{"*"}, all},
		{[]string{"*.gguf"}, all},
		{[]string{"tiny"}, []string{"tiny"}},
		{[]string{"tiny.gguf"}, []string{"tiny"}},
		{[]string{"a/tiny", "tiny", "a/tiny.gguf", "*tiny"}, []string{"a/tiny", "tiny"}},
		{[]string{"a/*"}, []string{"a/Large-F16", set, "a/tiny"}},
		{[]string{"*-F16"}, []string{"a/Large-F16"}},
		{[]string{"t?ny", "[a]/tiny"}, []string{"a/tiny", "tiny"}},
		{[]string{"[1]"}, []string{"[1]"}},
		{[]string{`\[1\]`}, []string{"[1]"}},
		{[]string{set}, []string{set}},
		{[]string{"a/set-00002-of-00002.gguf"}, []string{set}},
		{[]string{m.path("a/set-00002-of-00002.gguf")}, []string{set}},
		{[]string{"./a/tiny.gguf"}, []string{"a/tiny"}},
		{[]string{"../models/a/../tiny.gguf"}, []string{"tiny"}},
		{[]string{"alias/tiny"}, []string{"a/tiny"}},
		{[]string{"alias/set-00001-of-00002"}, []string{set}},
		{[]string{"linked", "linked.gguf"}, []string{"a/tiny"}},
		{[]string{outside.path("tiny.gguf"), "tiny"}, []string{outside.path("tiny"), "tiny"}},
		{[]string{"!a/*"}, []string{"[1]", "tiny"}},
		{[]string{"*tiny", "!tiny"}, []string{"a/tiny"}},
		{[]string{"!a/set-00002-of-00002.gguf", "*", "!" + m.path("tiny.gguf"), `!\[1\]`}, []string{"a/Large-F16", "a/tiny"}},
		{[]string{outside.path("tiny.gguf"), "tiny", "!" + outside.path("*")}, []string{"tiny"}},
		{[]string{"./hidden/.secret.gguf"}, []string{m.path("hidden/.secret")}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.patterns), func(t *testing.T) {
			selected, err := found.Select(tt.patterns)
			require.NoError(t, err)
			assert.Equal(t, tt.want, names(selected))
		})
	}
}

// What a file is called never takes the place of a pattern: anybody may add one.
func TestFilesThatAreCalledLikePatterns(t *testing.T) {
	m := newModels(t)
	for _, name := range []string{"a", "b", "*", "a*", "?", "!a", "[1]", "1"} {
		m.model(name + ".gguf")
	}
	all := []string{"!a", "*", "1", "?", "[1]", "a", "a*", "b"}
	t.Chdir(m.dir) // where the patterns are names of files, too
	found := m.discover()
	for pattern, want := range map[string][]string{
		"*": all, "*.gguf": all, "a*": {"a", "a*"}, "?": {"*", "1", "?", "a", "b"}, "?.gguf": {"*", "1", "?", "a", "b"},
		`\*`: {"*"}, `a\*.gguf`: {"a*"}, `\!a`: {"!a"}, "!a": {"!a", "*", "1", "?", "[1]", "a*", "b"},
		"[1]": {"1"}, `\[1\]`: {"[1]"}, "[1].gguf": {"1"}, m.path("*.gguf"): {"*"}, "./*.gguf": {"*"},
	} {
		selected, err := found.Select([]string{pattern})
		require.NoError(t, err, pattern)
		assert.Equal(t, want, names(selected), pattern)
	}
	_, err := found.Select([]string{"a", "!a*"})
	require.NoError(t, err)
	_, err = found.Select([]string{"![a"})
	require.ErrorContains(t, err, `"[a" is malformed`)
	plan := model.NewPlan([]config.Entry{{Models: []string{"a", "!a*"}, Targets: []string{"Q2_K"}}}, found, nil)
	require.ErrorContains(t, plan.Entries[0].Unfound, "leave out every model")
	plan = model.NewPlan([]config.Entry{{Models: []string{"![a"}, Targets: []string{"Q2_K"}}}, found, nil)
	require.ErrorContains(t, plan.Entries[0].Unfound, "is malformed")
}

func TestSharedShardIsOfTheSetItIsAskedIn(t *testing.T) {
	m := newModels(t)
	m.split("x/m", 2, 1, 2)
	m.split("y/m", 2, 1)
	require.NoError(t, os.Link(m.path("x/m-00002-of-00002.gguf"), m.path("y/m-00002-of-00002.gguf")))
	for _, set := range []string{"x", "y"} {
		selected, err := m.discover().Select([]string{m.path(set + "/m-00002-of-00002.gguf")})
		require.NoError(t, err)
		assert.Equal(t, []string{set + "/m-00001-of-00002"}, names(selected))
	}
}

func TestSelectSaysWhatIsThereInstead(t *testing.T) {
	m := newModels(t)
	m.model("llama-8b-f16.gguf")
	m.model("a/mistral.gguf")
	m.of("llama-mmproj.gguf", "general.type", "mmproj")
	m.text("plain", "x")
	t.Chdir(m.dir)
	found := m.discover()
	tests := []struct {
		pattern string
		want    []string
	}{
		{"llama-8b", []string{`"llama-8b"`, `did you mean "llama-8b-f16"?`, m.dir}},
		{"x/MISTRAL.gguf", []string{`did you mean "a/mistral"?`}},
		{"qwen", []string{`the models are "a/mistral", "llama-8b-f16"`}},
		{"qwen*", []string{`the models are "a/mistral", "llama-8b-f16"`}},
		{"*-mmproj", []string{`"llama-mmproj": a multimodal projector, no language model`}},
		{"[a", []string{`"[a" is malformed`}},
		{"a", []string{`"a" is a folder`}},
		{"./plain", []string{"is not named *.gguf"}},
		{"./none.gguf", []string{`"./none.gguf"`}},
		{"", []string{`""`}},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			_, err := found.Select([]string{tt.pattern})
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestNoModelAtAll(t *testing.T) {
	m := newModels(t)
	require.NoError(t, os.Mkdir(m.dir, 0o755))
	_, err := m.discover().Select(nil)
	require.ErrorContains(t, err, fmt.Sprintf("no model in %q: there is no *.gguf", m.dir))

	for i := range 12 {
		m.of(fmt.Sprintf("p%02d.gguf", i), "general.type", "mmproj")
	}
	_, err = m.discover().Select(nil)
	require.ErrorContains(t, err, m.dir)
	require.ErrorContains(t, err, `"p00": a multimodal projector, no language model`)
	require.ErrorContains(t, err, "and 2 more")
}

func TestFilesWithoutAModelDirectory(t *testing.T) {
	m := newModels(t)
	m.model("a/tiny.gguf")
	m.model("b/tiny.gguf")
	m.model("b/other.gguf")
	m.split("c/set", 2, 1)
	m.link("a/tiny.gguf", "same.gguf")
	quantized := gguftest.Tiny()
	quantized.Weights, quantized.FileType = gguf.Q8_0, 7
	gguftest.Model(quantized).Write(t, m.path("q8.gguf"))
	t.Chdir(m.dir)
	tests := []struct {
		patterns []string
		want     []string
	}{
		{[]string{"a/tiny.gguf"}, []string{"tiny"}},
		{[]string{"a/tiny.gguf", "b/other.gguf"}, []string{"other", "tiny"}},
		{[]string{"a/tiny.gguf", "b/tiny.gguf"}, []string{m.path("a/tiny"), m.path("b/tiny")}},
		{[]string{"a/tiny.gguf", m.path("a/tiny.gguf"), "same.gguf"}, []string{"tiny"}},
	}
	for _, tt := range tests {
		selected, err := model.Found{}.Select(tt.patterns)
		require.NoError(t, err)
		assert.Equal(t, tt.want, names(selected))
	}

	selected, err := model.Found{}.Select([]string{"c/set-00001-of-00002.gguf"})
	require.NoError(t, err)
	require.ErrorContains(t, selected[0].Err, `"set-00002-of-00002.gguf"`)

	_, err = model.Found{}.Select([]string{"q8.gguf"})
	require.ErrorContains(t, err, "models.allow_requantize")
	selected, err = model.Found{AllowRequantize: true}.Select([]string{"q8.gguf"})
	require.NoError(t, err)
	assert.Equal(t, []string{"q8"}, names(selected))

	for _, pattern := range []string{"tiny", "*", "none.gguf"} {
		_, err = model.Found{}.Select([]string{pattern})
		require.ErrorContains(t, err, "--model-dir", pattern)
	}
}

func TestFile(t *testing.T) {
	m := newModels(t)
	m.model("llama/8b-f16.gguf")
	gguftest.Model(gguftest.TinyQuantized()).Write(t, m.path("llama/8b-prod.gguf"))
	m.of("adapter.gguf", "general.type", "adapter")
	m.text("cut.gguf", "GGUF")
	outside := gguftest.Model(gguftest.TinyQuantized()).Write(t, filepath.Join(t.TempDir(), "else.gguf"))
	m.link(outside, "linked.gguf")
	found := m.discover()

	for name, want := range map[string]string{
		"llama/8b-prod":              "llama/8b-prod Q4_K_M",
		"llama/8b-prod.gguf":         "llama/8b-prod Q4_K_M",
		m.path("llama/8b-prod.gguf"): "llama/8b-prod Q4_K_M",
		"llama/8b-f16":               "llama/8b-f16 F16",
		"linked":                     "linked Q4_K_M",
		outside:                      "linked Q4_K_M",
	} {
		file, err := found.File(name)
		require.NoError(t, err, name)
		require.NoError(t, file.Err, name)
		assert.Equal(t, want, file.Name+" "+file.Header.Format, name)
		assert.NotEmpty(t, file.IDs)
	}
	assert.Len(t, found.Models, 1, "it is not a model for the schedule")

	file, err := model.Found{}.File(outside)
	require.NoError(t, err)
	assert.Equal(t, "else", file.Name, "there is no folder that it could be outside of")

	file, err = found.File("cut")
	require.NoError(t, err, "it is there")
	require.Error(t, file.Err)

	for name, want := range map[string]string{
		"llama/*": "is a pattern: name one file",
		"gone":    `no file is named "gone"`,
		"prod":    `did you mean "llama/8b-prod"?`,
		"adapter": "a LoRA adapter, no language model",
	} {
		_, err := found.File(name)
		assert.ErrorContains(t, err, want, name)
	}
	_, err = found.Select([]string{"llama/8b-prod"})
	assert.ErrorContains(t, err, "quantized already", "as a model it is none")
}

// What a file is called takes the place of no pattern that fits other models.
func TestAFileWithThePatternAsItsName(t *testing.T) {
	m := newModels(t)
	for _, name := range []string{"model-1", "model-2", "model-[12]", "alone-[3]"} {
		m.model(name + ".gguf")
	}
	for pattern, want := range map[string][]string{
		"model-[12]":              {"model-1", "model-2"},
		"model-[12].gguf":         {"model-1", "model-2"},
		`model-\[12\]`:            {"model-[12]"},
		m.path("model-[12].gguf"): {"model-[12]"},
		"alone-[3]":               {"alone-[3]"},
		"model-[1":                nil,
	} {
		selected, err := m.discover().Select([]string{pattern})
		if want == nil {
			require.ErrorContains(t, err, "malformed", pattern)
			continue
		}
		require.NoError(t, err, pattern)
		assert.Equal(t, want, names(selected), pattern)
	}
}

// Published copies and working folders are no sources, by whichever link they are found.
func TestTheProgramsOwnFoldersYieldNoModels(t *testing.T) {
	m, own := newModels(t), newModels(t)
	m.model("good.gguf")
	c := config.Default()
	c.Models.Dir, c.Work.Dir, c.Storage.Path = m.dir, own.path("work"), own.path("data")
	c.Publish.Dir = own.path("published")
	c.Schedule = make([]config.Entry, 1)
	c.Schedule[0].Publish.Dir = own.path("entry")
	for _, dir := range []string{"work", "data", "published", "entry"} {
		own.model(dir + "/copy.gguf")
		m.link(own.path(dir), "link-"+dir)
		m.link(own.path(dir+"/copy.gguf"), "link-to-"+dir+".gguf")
	}
	m.model("data/other.gguf")
	found, err := model.NewFinder(&c, nil).Discover()
	require.NoError(t, err)
	assert.Equal(t, []string{"data/other", "good"}, names(found.Models))
}
