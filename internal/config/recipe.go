package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/gguf"
)

// Recipe is a way to make a copy, under a name of its own: an item of targets beside formats.
type Recipe struct {
	// Name is the target's, in metrics, events and the state.
	Name string `yaml:"name" json:"name"`
	// Format is what llama-quantize begins with, and what the copy says it is.
	Format string `yaml:"format" json:"format"`
	// Args are given to llama-quantize behind engine.quantize_args: --tensor-type. Files that
	// they name need absolute paths. Default: none.
	Args []string `yaml:"args,omitempty" json:"args,omitempty"`
	// Imatrix is the file of an importance matrix, with the same placeholders as
	// engine.imatrix, whose place it takes. Default: that one.
	Imatrix string `yaml:"imatrix,omitempty" json:"imatrix,omitempty"`
}

// String describes how the copy is made, without secrets: "Q4_K_M with --tensor-type
// ffn_down=q6_k".
func (r Recipe) String() string {
	var with []string
	if len(r.Args) > 0 {
		with = append(with, strings.Join(RedactArgs(r.Args), " "))
	}
	if r.Imatrix != "" {
		with = append(with, "the importance matrix "+r.Imatrix)
	}
	if len(with) == 0 {
		return r.Format
	}
	return r.Format + " with " + strings.Join(with, " and ")
}

// Validate finds every value that cannot be used, but for what package llamacpp finds.
func (r Recipe) Validate() []Problem {
	var found problems
	switch name := gguf.Canonical(r.Name); {
	case r.Name == "":
		found.add("name", "is missing: name the recipe as pages and metrics are to call it, such as Q4_mix")
	case gguf.Known(name), name == "COPY", name == "UNKNOWN":
		found.add("name", "%q is the name of a format: give the recipe one of its own, such as %s-mix", r.Name, r.Name)
	case strings.HasSuffix(name, ".GGUF"):
		found.add("name", "%q is the name of a file: leave .gguf off", r.Name)
	default:
		found.check("name", CheckClass(r.Name))
	}
	if strings.TrimSpace(r.Format) == "" {
		found.add("format", "is missing: name the format that the recipe begins with, such as Q4_K_M")
	}
	switch {
	case len(r.Args) == 0 && r.Imatrix == "":
		found.add("args", "is missing, and so is imatrix, which makes a plain %s: say what is different, or name the format itself", r.Format)
	case len(r.Args) > 0 && !strings.HasPrefix(r.Args[0], "-"):
		found.add("args", "begins with %q, which llama-quantize would take for a file: begin with an option, such as --tensor-type", r.Args[0])
	}
	return found
}

// Recipes belong to an entry. Their names differ in more than the case of letters.
type Recipes []Recipe

// Of returns the recipe of a target, whose name may be in any case; nil for a format.
func (all Recipes) Of(target string) *Recipe {
	i := slices.IndexFunc(all, func(r Recipe) bool { return strings.EqualFold(r.Name, target) })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// Canonical returns the one name of a target, be it a recipe or a format.
func (all Recipes) Canonical(target string) string {
	if recipe := all.Of(target); recipe != nil {
		return recipe.Name
	}
	return gguf.Canonical(target)
}

// Format returns the format that llama-quantize is asked for, for a target.
func (all Recipes) Format(target string) string {
	if recipe := all.Of(target); recipe != nil {
		return recipe.Format
	}
	return target
}

// How describes how a target is made by a recipe; "" for a format.
func (all Recipes) How(target string) string {
	if recipe := all.Of(target); recipe != nil {
		return recipe.String()
	}
	return ""
}

func (all Recipes) redacted() Recipes {
	shown := slices.Clone(all)
	for i := range shown {
		shown[i].Args = RedactArgs(shown[i].Args)
	}
	return shown
}

// checkTargets wants formats and recipes, each once.
func (e *Entry) checkTargets(checks Checks) []Problem {
	var found problems
	for i, target := range e.Targets {
		recipe := e.Recipes.Of(target)
		if recipe == nil {
			continue
		}
		wrong := problems(recipe.Validate())
		wrong.check("args", checks.QuantizeArgs(recipe.Args))
		if recipe.Imatrix != "" && len(e.On) > 0 {
			wrong.add("imatrix", "names a file of this host, and on gives the cycle to others: leave it out, and name the matrix as engine.imatrix on the workers")
		}
		if len(e.On) > 0 {
			wrong.check("args", CheckRemoteQuantizeArgs(recipe.Args))
		}
		found = append(found, below(fmt.Sprintf("targets[%d]", i), wrong)...)
	}
	if len(found) == 0 {
		found.check("targets", checkList(e.Targets, "formats such as Q2_K", e.Recipes.Canonical))
	}
	return found
}

// items returns the targets as the file has them: names of formats, and recipes.
func (e *Entry) items() []any {
	items := make([]any, len(e.Targets))
	for i, target := range e.Targets {
		if recipe := e.Recipes.Of(target); recipe != nil {
			items[i] = *recipe
		} else {
			items[i] = target
		}
	}
	return items
}
