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
	keys, _ := problems(Default())
	assert.Equal(t, []string{"name", "cron"}, keys)
	keys, _ = problems(entry("nightly", "@daily"))
	assert.Empty(t, keys)
}

// problems are what Check reports.
func problems(e Entry) (keys []string, errs []error) {
	e.Check(func(key string, err error) { keys, errs = append(keys, key), append(errs, err) })
	return keys, errs
}

func TestEntryCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Entry)
		path   string
		want   string
	}{
		{"no name", func(e *Entry) { e.Name = "" }, "name", "is missing"},
		{"long name", func(e *Entry) { e.Name = strings.Repeat("ä", 101) }, "name", "has 101 characters: use at most 100"},
		{"name with a line feed", func(e *Entry) { e.Name = "a\nb" }, "name", "cannot be printed"},
		{"name that is not text", func(e *Entry) { e.Name = "a\xff" }, "name", "cannot be printed"},
		{"name with a space", func(e *Entry) { e.Name = "a " }, "name", "begins or ends with a space"},
		{"cron", func(e *Entry) { e.Cron = "daily" }, "cron", `"daily": write 5 fields, not 1`},
		{"timezone", func(e *Entry) { e.Timezone = "Bonn" }, "timezone", "use an IANA name"},
		{"jitter", func(e *Entry) { e.Jitter = -1e9 }, "jitter", "-1s is negative"},
		{"starting_deadline", func(e *Entry) { e.StartingDeadline = -1e9 }, "starting_deadline", "-1s is negative"},
		{"short starting_deadline", func(e *Entry) { e.StartingDeadline = 1e6 }, "starting_deadline", "1ms is too short"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, errs := problems(entry("e", "@daily", tt.change))
			require.Equal(t, []string{tt.path}, keys)
			assert.ErrorContains(t, errs[0], tt.want)
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
	keys, _ := problems(e)
	assert.Empty(t, keys)
}
