package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

func TestDefaultNeedsANameAndACron(t *testing.T) {
	var paths []string
	for _, p := range Default().Validate() {
		paths = append(paths, p.Path)
	}
	assert.Equal(t, []string{"name", "cron"}, paths)
	assert.Empty(t, entry("nightly", "@daily").Validate())
}

// against has an entry compare models with a file.
func against(file string, models ...string) func(*Entry) {
	return func(e *Entry) { e.Against, e.Models, e.Targets = file, models, nil }
}

func TestEntryAgainstAFile(t *testing.T) {
	assert.Empty(t, entry("n", "@daily", against("prod/m.gguf", "m")).Validate())
}

func TestEntryValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Entry)
		path   string
		want   string
	}{
		{"no name", func(e *Entry) { e.Name = "" }, "name", "is missing"},
		{"long name", func(e *Entry) { e.Name = strings.Repeat("ä", 101) }, "name", "has 101 characters: use at most 100"},
		{"name with a line feed", func(e *Entry) { e.Name = "a\nb" }, "name", "cannot be printed"},
		{"name that is no text", func(e *Entry) { e.Name = "a\xff" }, "name", "cannot be printed"},
		{"name with a space", func(e *Entry) { e.Name = "a " }, "name", "begins or ends with a space"},
		{"cron", func(e *Entry) { e.Cron = "daily" }, "cron", `"daily": write 5 fields, not 1`},
		{"timezone", func(e *Entry) { e.Timezone = "Bonn" }, "timezone", "use an IANA name"},
		{"no models", func(e *Entry) { e.Models = nil }, "models", "is empty"},
		{"blank model", func(e *Entry) { e.Models = []string{"a", " "} }, "models", "has a blank item"},
		{"model twice", func(e *Entry) { e.Models = []string{"a", "A", "a"} }, "models", `"a" is named twice`},
		{"no targets", func(e *Entry) { e.Targets = []string{} }, "targets", "is empty"},
		{"target twice", func(e *Entry) { e.Targets = []string{"Q2_K", "q2_k"} }, "targets", `"q2_k" is named twice`},
		{"file and targets", func(e *Entry) { e.Models, e.Against = []string{"m"}, "prod" }, "against", "takes the place of targets"},
		{"blank file", against(" ", "m"), "against", "is blank"},
		{"pattern of files", against("prod*", "m"), "against", `"prod*" is a pattern`},
		{"file and two models", against("prod", "m", "n"), "against", "name that in models"},
		{"file and a pattern of models", against("prod", "m?"), "against", "name that in models"},
		{"file and no models", func(e *Entry) { e.Models, e.Targets, e.Against = nil, nil, "prod" }, "models", "is empty"},
		{"overlap", func(e *Entry) { e.Overlap = "allow" }, "overlap", `"allow" is not known: use forbid or queue`},
		{"jitter", func(e *Entry) { e.Jitter = -1e9 }, "jitter", "-1s is negative"},
		{"starting_deadline", func(e *Entry) { e.StartingDeadline = -1e9 }, "starting_deadline", "-1s is negative"},
		{"short starting_deadline", func(e *Entry) { e.StartingDeadline = 1e6 }, "starting_deadline", "1ms is too short"},
		{"timeout", func(e *Entry) { e.Timeout = -1e9 }, "timeout", "-1s is negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			problems := entry("e", "@daily", tt.change).Validate()
			require.Len(t, problems, 1)
			assert.Equal(t, tt.path, problems[0].Path)
			assert.ErrorContains(t, problems[0].Err, tt.want)
		})
	}
}

func TestEntryFromYAML(t *testing.T) {
	e := Default()
	require.NoError(t, yaml.Unmarshal([]byte("{name: a, cron: '@daily', jitter: 5m, starting_deadline: 0, run_on_start: true}"), &e))
	want := Default()
	want.Name, want.Cron, want.RunOnStart = "a", "@daily", true
	want.Jitter, want.StartingDeadline = model.Duration(5*time.Minute), 0
	assert.Equal(t, want, e)
	assert.Empty(t, e.Validate())
}
