package schedule

import "github.com/prometheus/common/model"

// Overlap says what becomes of a fire while an earlier run of the entry is not over.
type Overlap string

// The ways to treat an overlap.
const (
	Forbid Overlap = "forbid" // the fire is skipped
	Queue  Overlap = "queue"  // one fire waits for the run to end, any further is skipped
)

// Entry is one item of `schedule:` in the configuration.
type Entry struct {
	// Name identifies the entry, in metrics, events and the state; unique.
	Name string `yaml:"name"`
	// Cron is when the entry is due: see [Parse].
	Cron string `yaml:"cron"`
	// Timezone of Cron, an IANA name such as Europe/Berlin. Default: the host's.
	Timezone string `yaml:"timezone"`
	// Models are names, globs or paths. Default: all.
	Models []string `yaml:"models"`
	// Targets are the formats to quantize to. Default: Q2_K.
	Targets []string `yaml:"targets"`
	// Jitter delays each fire by up to this long, always the same for an entry on a
	// host, so that hosts with one configuration do not act at once. Default 0.
	Jitter model.Duration `yaml:"jitter"`
	// Overlap is what becomes of a fire while an earlier run of the entry is not over.
	// Default forbid.
	Overlap Overlap `yaml:"overlap"`
	// StartingDeadline bounds how late a run may begin after it was due; a run that
	// would begin later is skipped. Default 1h.
	StartingDeadline model.Duration `yaml:"starting_deadline"`
	// Timeout bounds a run of the entry, all its models together. What is left then is
	// first in the next run. Default 0: no bound.
	Timeout model.Duration `yaml:"timeout"`
	// Suspend keeps the entry from being due, and its decisions on /metrics. Default
	// false.
	Suspend bool `yaml:"suspend"`
	// RunOnStart makes the entry due when the exporter starts. Default false.
	RunOnStart bool `yaml:"run_on_start"`
}
