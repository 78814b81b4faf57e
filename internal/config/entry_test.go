package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// against has an entry compare models with a file.
func against(file string, models ...string) func(*config.Entry) {
	return func(e *config.Entry) { e.Against, e.Models, e.Targets = file, models, nil }
}

func TestEntryProblems(t *testing.T) {
	c := config.Default()
	problems := func(change func(*config.Entry)) []config.Problem {
		e := c.NewEntry(1, false)
		e.Name, e.Cron = "e", "@daily"
		change(&e)
		return e.Problems(&c, checks)
	}
	for _, tt := range []struct {
		name   string
		change func(*config.Entry)
		path   string
		want   string
	}{
		{"no models", func(e *config.Entry) { e.Models = nil }, "models", "is empty"},
		{"blank model", func(e *config.Entry) { e.Models = []string{"a", " "} }, "models", "has a blank item"},
		{"nothing to leave out", func(e *config.Entry) { e.Models = []string{"a", "! "} }, "models", "leaves nothing out"},
		{"file and a model that is left out", against("prod", "!m"), "against", "name that in models"},
		{"model twice", func(e *config.Entry) { e.Models = []string{"a", "A", "a"} }, "models", `"a" is named twice`},
		{"no targets", func(e *config.Entry) { e.Targets = []string{} }, "targets", "is empty"},
		{"target twice", func(e *config.Entry) { e.Targets = []string{"Q2_K", "q2_k"} }, "targets", `"q2_k" is named twice`},
		{"file and targets", func(e *config.Entry) { e.Models, e.Against = []string{"m"}, "prod" }, "against", "takes the place of targets"},
		{"blank file", against(" ", "m"), "against", "is blank"},
		{"pattern of files", against("prod*", "m"), "against", `"prod*" is a pattern`},
		{"file and two models", against("prod", "m", "n"), "against", "name that in models"},
		{"file and a pattern of models", against("prod", "m?"), "against", "name that in models"},
		{"file and no models", func(e *config.Entry) { e.Models, e.Targets, e.Against = nil, nil, "prod" }, "models", "is empty"},
		{"overlap", func(e *config.Entry) { e.Overlap = "allow" }, "overlap", `"allow" is not known: use forbid or queue`},
		{"timeout", func(e *config.Entry) { e.Timeout = -1e9 }, "timeout", "-1s is negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := problems(tt.change)
			require.Len(t, found, 1)
			assert.Equal(t, tt.path, found[0].Path)
			assert.ErrorContains(t, found[0].Err, tt.want)
		})
	}
	assert.Empty(t, problems(func(*config.Entry) {}))
	assert.Empty(t, problems(against("prod/m.gguf", "m")))
}
