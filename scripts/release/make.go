package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// maker makes the files of one commit.
type maker struct {
	commit

	out  string // where they go
	work string // for what is on the way to them
}

// The directories below work.
const (
	common  = "common"  // what is the same on all platforms
	packing = "package" // what nfpm packs
)

// generate puts into work what every platform's files have in common: what the program
// says about itself, and what lies in the repository.
func (m *maker) generate(ctx context.Context) error {
	self, err := m.program(ctx, platform{runtime.GOOS, runtime.GOARCH})
	if err != nil {
		return err
	}
	for file, flag := range map[string]string{
		"quant-exporter.1": "--help-man", "completion.bash": "--completion-script-bash", "completion.zsh": "--completion-script-zsh",
	} {
		text, err := output(ctx, self, flag)
		if err != nil {
			return err
		}
		if err := m.write(filepath.Join(common, file), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	for _, file := range []string{"LICENSE", "README.md", "CHANGELOG.md", "quant-exporter.yml"} {
		if err := m.copy(file, filepath.Join(common, file)); err != nil {
			return err
		}
	}
	return m.copyTree("examples", filepath.Join(common, "examples"))
}

// make makes the files for one platform.
func (m *maker) make(ctx context.Context, p platform) error {
	program, err := m.program(ctx, p)
	if err != nil {
		return err
	}
	folder := fmt.Sprintf("quant-exporter-%s.%s-%s", m.version, p.os, p.arch)
	if err := m.copy(program, filepath.Join(folder, "quant-exporter")); err != nil {
		return err
	}
	if err := m.copyTree(filepath.Join(m.work, common), folder); err != nil {
		return err
	}
	if err := m.archive(folder); err != nil {
		return err
	}
	err = command(ctx, nil, "", "go", "run", cyclonedx, "bin", "-json", "-noserial", "-notimestamp",
		"-version", "v"+m.version, "-output", filepath.Join(m.out, folder+".sbom.json"), program)
	if err != nil || p.os != "linux" {
		return err
	}
	return m.pack(ctx, p, program)
}

// program compiles the program, once for each platform, and returns its path. It is static, so
// that it runs on any Linux of the architecture, and has no path of this host in it.
func (m *maker) program(ctx context.Context, p platform) (string, error) {
	file := filepath.Join(m.work, "programs", p.os+"-"+p.arch)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	const version = "github.com/prometheus/common/version"
	flags := fmt.Sprintf("-s -w -buildid= -X %s.Version=%s -X %s.Revision=%s -X %s.BuildDate=%s",
		version, m.version, version, m.revision, version, m.date().Format(time.RFC3339))
	env := []string{"CGO_ENABLED=0", "GOOS=" + p.os, "GOARCH=" + p.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS="}
	return file, command(ctx, env, "", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", file, ".")
}

// pack makes the deb and the rpm package.
func (m *maker) pack(ctx context.Context, p platform, program string) error {
	if err := os.RemoveAll(filepath.Join(m.work, packing)); err != nil {
		return err
	}
	if err := m.copyTree(filepath.Join(m.work, common), packing); err != nil {
		return err
	}
	if err := m.copyTree(filepath.Join("scripts", "release", "package"), packing); err != nil {
		return err
	}
	if err := m.copy(program, filepath.Join(packing, "quant-exporter")); err != nil {
		return err
	}
	unit, err := packagedUnit()
	if err != nil {
		return err
	}
	if err := m.write(filepath.Join(packing, "quant-exporter.service"), []byte(unit), 0o644); err != nil {
		return err
	}
	if err := m.compress(filepath.Join(packing, "quant-exporter.1")); err != nil {
		return err
	}
	env := []string{"VERSION=" + m.version, "ARCH=" + p.arch, "SOURCE_DATE_EPOCH=" + strconv.FormatInt(m.unix, 10)}
	for _, packager := range []string{"deb", "rpm"} {
		err := command(ctx, env, filepath.Join(m.work, packing), "go", "run", nfpm, "package",
			"--config", "nfpm.yml", "--packager", packager, "--target", m.out+string(filepath.Separator))
		if err != nil {
			return err
		}
	}
	return nil
}

// packagedUnit is the unit of examples, as a package has it: with the program where packages
// put theirs, and with a user that owns its files for good.
func packagedUnit() (string, error) {
	text, err := os.ReadFile(filepath.Join("examples", "systemd", "quant-exporter.service"))
	if err != nil {
		return "", err
	}
	unit := string(text)
	for _, change := range [][2]string{
		{"/usr/local/bin/quant-exporter ", "/usr/bin/quant-exporter "},
		{"# No user to create; to own files that outlive it, name one instead: User=quant-exporter.\nDynamicUser=yes\n", "User=quant-exporter\nGroup=quant-exporter\n"},
	} {
		if strings.Count(unit, change[0]) != 1 {
			return "", fmt.Errorf("the unit of examples/systemd does not have %q once: adapt scripts/release to it", change[0])
		}
		unit = strings.Replace(unit, change[0], change[1], 1)
	}
	return unit, nil
}

// compress replaces a file below work by one that ends in .gz.
func (m *maker) compress(file string) error {
	text, err := os.ReadFile(filepath.Join(m.work, file))
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression) // without a name and a date
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	if err := errors.Join(err, w.Close(), os.Remove(filepath.Join(m.work, file))); err != nil {
		return err
	}
	return m.write(file+".gz", packed.Bytes(), 0o644)
}

// copyTree copies a directory, but for Go's files and test data, into work.
func (m *maker) copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".gguf") {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return m.copy(path, filepath.Join(to, name))
	})
}

func (m *maker) copy(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644) // whatever the umask was when the repository was cloned
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	return m.write(to, content, mode)
}

// write writes a file below work, with the date of the commit.
func (m *maker) write(file string, content []byte, mode fs.FileMode) error {
	file = filepath.Join(m.work, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, content, mode); err != nil {
		return err
	}
	if err := os.Chmod(file, mode); err != nil {
		return err
	}
	return os.Chtimes(file, m.date(), m.date())
}

// command runs a program in a directory, with more environment. What it prints goes to standard
// error.
func command(ctx context.Context, env []string, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), dir
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args[:2], " "), err)
	}
	return nil
}
