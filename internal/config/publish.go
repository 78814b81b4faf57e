package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// Publish is the section `publish:`, where copies that are kept are published. See package
// publish.
type Publish struct {
	// Dir is the directory to publish in. Default "": nothing is published.
	Dir string `yaml:"dir" input:"-"`
	// Keep is how many versions of a model's target stay; 0: all. Default 3.
	Keep int `yaml:"keep" input:"-"`
}

// DefaultPublish publishes nothing.
func DefaultPublish() Publish { return Publish{Keep: 3} }

// Enabled reports whether copies are published.
func (p Publish) Enabled() bool { return p.Dir != "" }

// Validate finds every value that cannot be used.
func (p Publish) Validate() []Problem {
	if p.Keep < 0 {
		return []Problem{{Path: "keep", Err: fmt.Errorf("%d versions cannot be kept: use 1 or more, or 0 for all", p.Keep)}}
	}
	return nil
}

// PublishDirs returns the directories that copies are published in, each once.
func (c *Config) PublishDirs() []string {
	dirs := []string{c.Publish.Dir}
	for _, e := range c.Schedule {
		dirs = append(dirs, e.Publish.Dir)
	}
	slices.Sort(dirs)
	return slices.DeleteFunc(slices.Compact(dirs), func(dir string) bool { return dir == "" })
}

// OwnDirs returns the directories that the program itself writes to. What looks like a model in
// them was made from one, by whichever link it is found.
func (c *Config) OwnDirs() []string {
	return append(c.PublishDirs(), c.Work.Dir, c.Storage.Path)
}

// Apart returns an error if copies would be published within the model directory, where
// they would be found as models. Callers that change Models.Dir must check again.
func (c *Config) Apart() error {
	errs := []error{named("publish.dir", c.apart(c.Publish.Dir))}
	for _, e := range c.Schedule {
		if e.Publish.Dir != c.Publish.Dir {
			errs = append(errs, named(fmt.Sprintf("publish.dir of the entry %q", e.Name), c.apart(e.Publish.Dir)))
		}
	}
	return errors.Join(errs...)
}

func named(key string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return err
}

func (c *Config) apart(publish string) error {
	if publish == "" || c.Models.Dir == "" {
		return nil
	}
	models, err := filepath.Abs(c.Models.Dir)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(publish)
	if err != nil {
		return err
	}
	if below, err := filepath.Rel(models, dir); err == nil && filepath.IsLocal(below) {
		return fmt.Errorf("%q is in the model folder %q, where copies would be found as models: publish elsewhere", publish, c.Models.Dir)
	}
	return nil
}
