package model_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
)

const (
	first  = "b1c5f0d2e7a94c3388e1f7d6a5b4c3d2e1f00911"
	second = "07aa31c2d3e4f5061728394a5b6c7d8e9f001122"
	third  = "ffaa31c2d3e4f5061728394a5b6c7d8e9f001122"
)

// revision adds one to a cache of huggingface_hub, with a file that leads to a blob, and has
// refs lead to it.
func (m models) revision(repo, commit, blob string, refs ...string) {
	m.t.Helper()
	path := m.path(filepath.Join(repo, "blobs", blob))
	if _, err := os.Stat(path); err != nil {
		gguftest.Model(gguftest.Tiny()).Write(m.t, path)
	}
	m.link("../../blobs/"+blob, filepath.Join(repo, "snapshots", commit, "m-f16.gguf"))
	for _, ref := range refs {
		m.text(filepath.Join(repo, "refs", ref), commit)
	}
}

func TestARevisionKeepsTheNameOfItsModel(t *testing.T) {
	m := newModels(t)
	m.revision("models--acme--kjv-GGUF", first, "blob", "main")
	before := m.discover()
	require.Equal(t, []string{"acme/kjv-GGUF/m-f16"}, names(before.Models))

	m.revision("models--acme--kjv-GGUF", second, "blob", "main")
	found := m.discover()
	require.Equal(t, names(before.Models), names(found.Models), "the same file in a new revision")
	assert.Equal(t, m.path("models--acme--kjv-GGUF/snapshots/"+second+"/m-f16.gguf"), found.Models[0].Path)
	assert.Empty(t, found.Skipped)

	m.revision("models--acme--kjv-GGUF", third, "another", "main")
	found = m.discover()
	require.Equal(t, names(before.Models), names(found.Models), "another file in a new revision")
	require.Len(t, found.Skipped, 1)
	older := found.Skipped[0]
	assert.Contains(t, older.Reason, "an older revision of acme/kjv-GGUF")
	for _, name := range []string{older.Name, older.Path, "acme/kjv-GGUF@" + filepath.Base(filepath.Dir(older.Path))[:12] + "/m-f16"} {
		selected, err := found.Select([]string{name})
		require.NoError(t, err, "whoever names it gets it")
		assert.Equal(t, []string{older.Name}, names(selected))
		assert.NoError(t, selected[0].Err)
	}
	_, err := found.Select([]string{"*"})
	require.NoError(t, err)
}

func TestNamesInACacheOfHuggingFace(t *testing.T) {
	cache := func(m models) {
		m.revision("hub/models--acme--kjv", first, "a", "main")
		m.revision("hub/models--acme--kjv", second, "b", "v1.0")
		m.revision("hub/models--gpt2", third, "c")
	}
	for dir, want := range map[string][]string{
		"":                                    {"hub/acme/kjv/m-f16", "hub/acme/kjv@REF/m-f16", "hub/gpt2@ffaa31c2d3e4/m-f16"},
		"hub":                                 {"acme/kjv/m-f16", "acme/kjv@REF/m-f16", "gpt2@ffaa31c2d3e4/m-f16"},
		"hub/models--acme--kjv":               {"acme/kjv/m-f16", "acme/kjv@REF/m-f16"},
		"hub/models--gpt2/snapshots":          {"gpt2@ffaa31c2d3e4/m-f16"},
		"hub/models--gpt2/snapshots/" + third: {"m-f16"},
	} {
		t.Run(dir, func(t *testing.T) {
			m := newModels(t)
			cache(m)
			found, err := model.Discover(m.path(dir), false, nil)
			require.NoError(t, err)
			got := names(found.Models)
			for i := range got {
				got[i] = strings.NewReplacer("@v1.0", "@REF").Replace(got[i])
			}
			assert.Equal(t, want, got)
		})
	}
	m := newModels(t)
	cache(m)
	path := m.path("hub/models--acme--kjv/snapshots/" + first + "/m-f16.gguf")
	selected, err := model.Found{}.Select([]string{path})
	require.NoError(t, err)
	assert.Equal(t, []string{"m-f16"}, names(selected))

	m.model("hub/acme/kjv/m-f16.gguf")
	assert.Equal(t, []string{
		"hub/acme/kjv/m-f16", "hub/acme/kjv@v1.0/m-f16", "hub/gpt2@ffaa31c2d3e4/m-f16", "hub/models--acme--kjv/snapshots/" + first + "/m-f16",
	}, names(m.discover().Models), "a plain path has its name")
}

func TestModelsOfOllama(t *testing.T) {
	m := newModels(t)
	blob := func(no int) string {
		digest := strings.Repeat(strconv.Itoa(no), 64)
		gguftest.Model(gguftest.Tiny()).Write(t, m.path("ollama/blobs/sha256-"+digest))
		return "sha256:" + digest
	}
	manifest := func(name, digest string) {
		m.text("ollama/manifests/"+name, fmt.Sprintf(`{"schemaVersion":2,"layers":[
			{"mediaType":"application/vnd.ollama.image.license","digest":"sha256:%064d"},
			{"mediaType":"application/vnd.ollama.image.model","digest":%q}]}`, 0, digest))
	}
	one := blob(1)
	manifest("registry.ollama.ai/library/llama3/8b-fp16", one)
	manifest("registry.ollama.ai/library/llama3/latest", one)
	manifest("registry.ollama.ai/somebody/tiny/f16", blob(2))
	manifest("hf.co/acme/kjv-GGUF/F16", blob(3))
	manifest("registry.ollama.ai/library/outside/latest", "sha256:../../../etc/passwd")
	manifest("registry.ollama.ai/library/gone/latest", "sha256:"+strings.Repeat("9", 64))
	m.text("ollama/manifests/registry.ollama.ai/library/broken/latest", "{")
	found := m.discover()
	assert.Equal(t, []string{"ollama/hf.co/acme/kjv-GGUF:F16", "ollama/llama3:8b-fp16", "ollama/somebody/tiny:f16"}, names(found.Models))
	selected, err := found.Select([]string{m.path("ollama/blobs/" + strings.Replace(one, ":", "-", 1))})
	require.NoError(t, err)
	assert.Equal(t, []string{"ollama/llama3:8b-fp16"}, names(selected))
}
