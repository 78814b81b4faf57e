package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// commit is what a release is made from. Every file gets its date.
type commit struct {
	version  string // without a v, such as 0.1.0, or 0.1.0+5.g1a2b3c4 between tags
	revision string // the whole hash
	unix     int64  // when it was committed, in seconds since 1970
}

func (c commit) date() time.Time { return time.Unix(c.unix, 0).UTC() }

// describe asks git for what was not given. Files that are changed and not committed are in
// the version, as ".dirty": such a release cannot be made again.
func describe(ctx context.Context, given commit) (commit, error) {
	c := given
	if c.version == "" {
		described, err := output(ctx, "git", "describe", "--tags", "--always", "--long", "--dirty", "--match", "v[0-9]*")
		if err != nil {
			return commit{}, err
		}
		c.version = versionOf(described)
	}
	if c.revision == "" {
		var err error
		if c.revision, err = output(ctx, "git", "rev-parse", "HEAD"); err != nil {
			return commit{}, err
		}
	}
	if c.unix == 0 {
		text, err := output(ctx, "git", "log", "-1", "--format=%ct")
		if err != nil {
			return commit{}, err
		}
		if c.unix, err = strconv.ParseInt(text, 10, 64); err != nil {
			return commit{}, fmt.Errorf("the date of the commit: %w", err)
		}
	}
	return c, nil
}

// described is what git describe --long says where there is a tag: v0.1.0-5-g1a2b3c4-dirty.
var described = regexp.MustCompile(`^v(.+)-([0-9]+)-(g[0-9a-f]+)(-dirty)?$`)

// versionOf makes a semantic version of git's description, one that is newer than the tag
// where the commit is: 0.1.0 at the tag itself, 0.1.0+5.g1a2b3c4 five commits later. Without
// any tag it is 0.0.0 and the commit.
func versionOf(text string) string {
	tag, since, hash, dirty := "0.0.0", "", "", ""
	if parts := described.FindStringSubmatch(text); parts != nil {
		tag, since, hash, dirty = parts[1], parts[2], parts[3], parts[4]
	} else {
		hash, dirty, _ = strings.Cut(text, "-")
		hash = "g" + hash
	}
	var more []string
	if since != "0" {
		if since != "" {
			more = append(more, since)
		}
		more = append(more, hash)
	}
	if dirty != "" {
		more = append(more, "dirty")
	}
	if len(more) == 0 {
		return tag
	}
	return tag + "+" + strings.Join(more, ".")
}

// output is what a program prints, without the end of the line; its messages go to standard error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return string(bytes.TrimRight(out, "\n")), nil
}
