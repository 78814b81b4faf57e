// Command release makes the files of a release in a directory, and publishes nothing:
//
//	go run ./scripts/release -out dist
//
// For each platform these are an archive with the program, its manual page, its configuration
// and the examples, and a CycloneDX list of the modules in the program; for Linux a deb and an
// rpm package, too. SHA256SUMS has the sums of them all.
//
// Version and date come from the commit that is checked out. Two runs on one commit, with
// one version of Go, make equal files, whoever runs them and wherever. The tools that are
// needed beside Go come from its module proxy, at the versions below.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

// The tools, at the versions that the files are made with.
const (
	nfpm      = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"
	cyclonedx = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"
)

// platforms are what a release is for.
var platforms = []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := release(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

// release is the program, in the root of the repository.
func release(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ExitOnError)
	out := flags.String("out", "dist", "`folder` for the files; what an earlier release left in it is removed")
	only := flags.String("platforms", "", "`list` of platforms, such as linux/amd64,darwin/arm64; default: all")
	var given commit
	flags.StringVar(&given.version, "version", "", "`version`; default: from the newest tag, as git describes it")
	flags.StringVar(&given.revision, "revision", "", "`hash` of the commit; default: git's")
	flags.Int64Var(&given.unix, "date", 0, "`seconds` since 1970, the date of all files; default: the commit's")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := choose(*only)
	if err != nil {
		return err
	}
	c, err := describe(ctx, given)
	if err != nil {
		return err
	}
	if *out, err = emptied(*out); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "quant-exporter-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	m := maker{commit: c, out: *out, work: work}
	if err := m.generate(ctx); err != nil {
		return err
	}
	for _, p := range wanted {
		if err := m.make(ctx, p); err != nil {
			return fmt.Errorf("making the files for %s: %w", p, err)
		}
	}
	return sums(*out)
}

// choose gives the platforms of a list, all for an empty one.
func choose(list string) ([]platform, error) {
	if list == "" {
		return platforms, nil
	}
	var chosen []platform
	for name := range strings.SplitSeq(list, ",") {
		system, arch, found := strings.Cut(name, "/")
		if !found {
			return nil, fmt.Errorf("-platforms: %q is not of the form linux/amd64", name)
		}
		chosen = append(chosen, platform{system, arch})
	}
	return chosen, nil
}

// emptied makes the directory, or removes what a release left in it. A directory with anything else
// in it is an error.
func emptied(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, "quant-exporter") && name != sumsFile {
			return "", fmt.Errorf("%s holds %s, which no release made: name an empty folder", dir, name)
		}
	}
	var failed error
	for _, entry := range entries {
		failed = errors.Join(failed, os.Remove(filepath.Join(dir, entry.Name())))
	}
	return dir, failed
}
