package config

import (
	"fmt"

	"github.com/alecthomas/units"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Cache is the section `cache:`, the files that later cycles use again.
type Cache struct {
	// Size bounds all files together. Default 10GB; 0 keeps none.
	Size Size `yaml:"size"`
}

// DefaultCache keeps 10 GB.
func DefaultCache() Cache { return Cache{Size: Size(10 * units.GB)} }

// Validate finds every value that cannot be used.
func (c Cache) Validate() []Problem {
	if c.Size < 0 {
		return []Problem{{Path: "size", Err: fmt.Errorf("%v is not a size: use one such as 10GB, or 0 to keep no files", c.Size)}}
	}
	return nil
}

// Size is a number of bytes that people write with a unit: 10GB, 512MiB.
type Size int64

// UnmarshalText reads one.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := units.ParseStrictBytes(string(text))
	if err != nil {
		return fmt.Errorf("reading a size: %w", err)
	}
	*s = Size(n)
	return nil
}

// MarshalText writes it so that it reads back as the same.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes it as text.Bytes does.
func (s Size) String() string { return text.Bytes(int64(s)) }
