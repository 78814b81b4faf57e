package command

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStamp(t *testing.T) {
	const at = "2026-11-28T11:53:02Z"
	for name, test := range map[string]struct {
		version string
		time    string // vcs.time
		want    [2]string
	}{
		"go build of a tag":              {"v0.1.0", at, [2]string{"0.1.0", at}},
		"go build between tags":          {"v0.1.1-0.20261128115302-abcdef012345+dirty", at, [2]string{"0.1.1-0.20261128115302-abcdef012345+dirty", at}},
		"go install of a tag":            {"v0.1.0", "", [2]string{"0.1.0", ""}},
		"go install between tags":        {"v0.1.1-0.20261128115302-abcdef012345", "", [2]string{"0.1.1-0.20261128115302-abcdef012345", at}},
		"go install without tags":        {"v0.0.0-20261128115302-abcdef012345", "", [2]string{"0.0.0-20261128115302-abcdef012345", at}},
		"go install after a pre-release": {"v0.2.0-rc.1.0.20261128115302-abcdef012345", "", [2]string{"0.2.0-rc.1.0.20261128115302-abcdef012345", at}},
		"a version that only looks so":   {"v0.1.1-0.20269928115302-abcdef012345", "", [2]string{"0.1.1-0.20269928115302-abcdef012345", ""}},
		"go build -buildvcs=false":       {"(devel)", "", [2]string{"unknown", ""}},
		"no build information at all":    {"", "", [2]string{"unknown", ""}},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: test.version}}
		if test.time != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs.time", Value: test.time}}
		}
		recorded, date := stamp(info)
		assert.Equal(t, test.want, [2]string{recorded, date}, name)
	}
}
