package model

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// naming is what a file is called, where that is not its path.
type naming struct {
	name string
	// later says that the name is of no ref, or of another one than main: where the same file
	// has another name, that is better.
	later bool
	// older names the repository where the file is one of a revision that a newer one has taken
	// the place of; "" otherwise.
	older string
}

// hubs names files in caches of huggingface_hub, which keep them as
//
//	models--OWNER--REPO/snapshots/COMMIT/FILE    links to the content, mostly
//	models--OWNER--REPO/refs/main                the commit that was asked for last
//
// A file at refs/main is OWNER/REPO/FILE, so that a new revision changes no name; at another
// ref OWNER/REPO@REF/FILE; and OWNER/REPO@COMMIT/FILE, by 12 digits, at none. It remembers the
// refs that it read, by their repository's folder.
type hubs map[string]map[string]string

const mainRef = "main"

// hubFile splits the path of a file in such a cache.
var hubFile = regexp.MustCompile(`^(.*/|)models--([^/]+)/snapshots/([^/]+)/(.+)$`)

// name names the file at path, which is relative to dir or absolute; false where it is not in
// such a cache, or dir is one revision.
func (h hubs) name(dir, file string) (naming, bool) {
	absolute := filepath.ToSlash(under(dir, file))
	match := hubFile.FindStringSubmatch(absolute)
	if match == nil {
		return naming{}, false
	}
	before, repository, commit, inside := match[1], strings.ReplaceAll(match[2], "--", "/"), match[3], match[4]
	folder := before + "models--" + match[2]
	prefix := before
	if !filepath.IsAbs(file) {
		if isBelow(dir, path.Join(folder, "snapshots", commit)) {
			return naming{}, false
		}
		if prefix = ""; isBelow(folder, dir) {
			relative, err := filepath.Rel(dir, filepath.FromSlash(before))
			if err == nil && relative != "." && folder != filepath.ToSlash(dir) {
				prefix = filepath.ToSlash(relative) + "/"
			}
		}
	}
	refs := h.refs(folder)
	ref, named := refs[commit]
	n := naming{later: ref != mainRef}
	switch {
	case ref == mainRef:
	case named:
		repository += "@" + ref
	default:
		for _, ref := range refs {
			if ref == mainRef {
				n.older = repository
			}
		}
		repository += "@" + commit[:min(len(commit), 12)]
	}
	n.name = modelName(prefix + repository + "/" + inside)
	return n, true
}

// refs gives the names of refs by their commits; of several main, or the first.
func (h hubs) refs(folder string) map[string]string {
	if known, ok := h[folder]; ok {
		return known
	}
	refs := map[string]string{}
	h[folder] = refs
	root := filepath.Join(filepath.FromSlash(folder), "refs")
	_ = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // what cannot be read leads nowhere
		}
		const longest = 256
		commit, err := disk.ReadSmall(file, longest)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		ref, err := filepath.Rel(root, file)
		if at := strings.TrimSpace(string(commit)); err == nil && (refs[at] == "" || ref == mainRef) {
			refs[at] = filepath.ToSlash(ref)
		}
		return nil
	})
	return refs
}

// ollamaManifest is what Ollama keeps of a model, at
//
//	manifests/HOST/NAMESPACE/MODEL/TAG
//
// beside blobs/sha256-DIGEST, which the layers are in.
type ollamaManifest struct {
	Layers []struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
	} `json:"layers"`
}

const (
	ollamaModel     = "application/vnd.ollama.image.model"
	ollamaHost      = "registry.ollama.ai"
	ollamaLibrary   = "library"
	ollamaManifests = "manifests"
	ollamaBlobs     = "blobs"
)

var ollamaDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// isOllama reports whether a folder with these entries is one of Ollama's models.
func isOllama(entries []fs.DirEntry) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name && e.IsDir() })
	}
	return has(ollamaManifests) && has(ollamaBlobs)
}

// ollama gives the blobs of the models in a folder of Ollama's, by their names: MODEL:TAG, with
// host and namespace before that where they are not the usual ones.
func ollama(dir string) map[string]string {
	blobs := map[string]string{}
	root := filepath.Join(dir, ollamaManifests)
	_ = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // what cannot be read names nothing
		}
		const longest = 1 << 20
		text, err := disk.ReadSmall(file, longest)
		var manifest ollamaManifest
		if err != nil || json.Unmarshal(text, &manifest) != nil {
			return nil //nolint:nilerr // as above
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		parts := strings.Split(filepath.ToSlash(relative), "/")
		if parts[0] == ollamaHost {
			if parts = parts[1:]; len(parts) > 0 && parts[0] == ollamaLibrary {
				parts = parts[1:]
			}
		}
		if len(parts) < 2 {
			return nil
		}
		name := fmt.Sprintf("%s:%s", path.Join(parts[:len(parts)-1]...), parts[len(parts)-1])
		var models []string
		for _, layer := range manifest.Layers {
			if layer.MediaType == ollamaModel && ollamaDigest.MatchString(layer.Digest) {
				models = append(models, layer.Digest)
			}
		}
		if len(models) == 1 {
			blobs[name] = filepath.Join(ollamaBlobs, strings.Replace(models[0], ":", "-", 1))
		}
		return nil
	})
	return blobs
}
