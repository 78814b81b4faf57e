package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

const manifestFile = "manifest.json"

// maxManifest bounds, in bytes, what is read of one: ours have some 3 KB.
const maxManifest = 1 << 20

// Manifest says what a published copy is, and how it came about.
type Manifest struct {
	Model        string    `json:"model_name"`
	SourceFormat string    `json:"source_format"`
	TargetFormat string    `json:"target_format"`
	File         string    `json:"file"` // base name, beside the manifest
	Bytes        int64     `json:"bytes"`
	SHA256       string    `json:"sha256"` // of the file, in hexadecimal
	Published    time.Time `json:"published"`
	Source       Source    `json:"source"`
	Engine       Engine    `json:"engine"`
	// Arguments of the quantization, the tool's name first.
	Arguments []string `json:"quantize_arguments"`
	Decision  Decision `json:"decision"`
}

// Source is the model that the copy was made of.
type Source struct {
	Files []SourceFile `json:"files"`
	// SHA256 of the file, in hexadecimal. For a split model: of the lines with its files' own
	// sums, as in sha256sum FILES | cut -d' ' -f1 | sha256sum.
	SHA256 string `json:"sha256"`
}

// SourceFile is one file of a model, as it was.
type SourceFile struct {
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
}

// Engine is what quantized and measured.
type Engine struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Build   int    `json:"build"` // 0 when it does not say
	Commit  string `json:"commit"`
}

// Decision is why the copy was published.
type Decision struct {
	Decision string    `json:"decision"` // kept
	Cycle    uint64    `json:"cycle"`
	EventID  *string   `json:"event_id"` // null when the decision stood already
	Time     time.Time `json:"time"`
	Host     string    `json:"host"`
	Entry    string    `json:"entry"`            // "" from the command line
	Choose   string    `json:"choose,omitempty"` // by what it was chosen among its model's targets
	Rounds   int       `json:"rounds"`
	// Threshold and the drops are in percent of the original's throughput.
	Threshold float64 `json:"threshold_percent"`
	Phases    []Phase `json:"phases"`
	// KLDivergence of the copy, in nats; null when quality was not evaluated.
	KLDivergence *float64 `json:"kl_divergence"`
}

// Phase is what was measured of one phase.
type Phase struct {
	Phase     string      `json:"phase"`
	Original  float64     `json:"original_throughput"` // tokens per second
	Quantized float64     `json:"quantized_throughput"`
	Drop      float64     `json:"throughput_drop_percent"`
	Interval  [2]*float64 `json:"drop_interval_percent"` // an open end is null
}

// Version is a published copy.
type Version struct {
	Dir    string // absolute
	Stable string // the link that leads to it; "" when read from the disk
	Manifest
}

// errNoVersion says that there is nothing at all.
var errNoVersion = errors.New("there is no such version")

// Read reads the published version in a directory.
func Read(dir string) (Version, error) {
	v, err := readVersion(dir)
	if err != nil {
		return Version{}, fmt.Errorf("reading a published version: %w", err)
	}
	return v, nil
}

// Path returns the path of the version's copy.
func (v Version) Path() string { return filepath.Join(v.Dir, filepath.Base(v.File)) }

// Check fails where the copy is not what was published. It reads all of it, and stops soon after
// ctx ends.
func (v Version) Check(ctx context.Context) error {
	if err := holds(ctx, v.Path(), v.SHA256); err != nil {
		return fmt.Errorf("checking %s: %w", v.Path(), err)
	}
	return nil
}

// readVersion reads the manifest of a version, which is a directory and no link to one.
func readVersion(dir string) (Version, error) {
	v := Version{Dir: dir}
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return v, errNoVersion
	case err != nil:
		return v, err
	case !info.IsDir():
		return v, fmt.Errorf("%s is not a folder", dir)
	}
	text, err := disk.ReadSmall(filepath.Join(dir, manifestFile), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("%s has no %s", dir, manifestFile)
	}
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(text, &v.Manifest); err != nil {
		return v, fmt.Errorf("%s is none: %w", filepath.Join(dir, manifestFile), err)
	}
	return v, nil
}

// writeManifest writes a new file, and to the disk.
func (d *Directory) writeManifest(path string, m Manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return d.system.sync(path)
}
