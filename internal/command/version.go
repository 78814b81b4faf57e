package command

import (
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/common/version"
	"golang.org/x/mod/module"
)

// StampVersion fills in, from what the compiler recorded in the executable, the version and
// the date that no linker flag gave: `make build` gives them, a plain `go build` and
// `go install` do not. Call it before anything shows the version.
func StampVersion(info *debug.BuildInfo, ok bool) {
	if !ok {
		info = &debug.BuildInfo{}
	}
	recorded, date := stamp(info)
	if version.Version == "" {
		version.Version = recorded
	}
	if version.BuildDate == "" {
		version.BuildDate = date
	}
}

// stamp returns the recorded version, without its v, or "unknown", and the date of the
// commit, or "". Both are the go command's: v0.1.0 of a tag or of `go install MODULE@v0.1.0`,
// and a pseudo-version such as v0.1.1-0.20261128115302-abcdef012345 between tags, which holds the
// date where the repository was not at hand.
func stamp(info *debug.BuildInfo) (recorded, date string) {
	recorded = strings.TrimPrefix(info.Main.Version, "v")
	if recorded == "" || recorded == "(devel)" { // built without the repository's history
		recorded = "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.time" {
			return recorded, setting.Value
		}
	}
	if at, err := module.PseudoVersionTime(info.Main.Version); err == nil {
		date = at.Format(time.RFC3339)
	}
	return recorded, date
}
