package runner_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/runner"
)

// What the system refuses is not a defect of this program, which is what internal means.
func TestWhatTheSystemRefuses(t *testing.T) {
	inWork := func(err error) func(*fixture, runner.QuantizeJob) error {
		return func(_ *fixture, job runner.QuantizeJob) error {
			return fmt.Errorf("writing: %w", &fs.PathError{Op: "open", Path: filepath.Join(job.Dir, "x"), Err: err})
		}
	}
	for name, tt := range map[string]struct {
		quantize func(*fixture, runner.QuantizeJob) error
		reason   runner.Reason
		want     string
	}{
		"a full disk":             {inWork(syscall.ENOSPC), runner.ReasonNoSpace, "the disk is full"},
		"a quota":                 {inWork(syscall.EDQUOT), runner.ReasonNoSpace, "the disk is full"},
		"a read-only file system": {inWork(syscall.EROFS), runner.ReasonWorkDir, "cannot be written to"},
		"another user's folder":   {inWork(syscall.EACCES), runner.ReasonWorkDir, "cannot be written to"},
		"a mount that went away":  {inWork(syscall.ESTALE), runner.ReasonWorkDir, "has gone or is broken"},
		"too few descriptors":     {inWork(syscall.EMFILE), runner.ReasonHostLimit, "LimitNOFILE="},
		"too few in the system":   {inWork(syscall.ENFILE), runner.ReasonHostLimit, "LimitNOFILE="},
		"a link that is refused": {func(_ *fixture, job runner.QuantizeJob) error {
			return &os.LinkError{Op: "link", Old: "/a", New: filepath.Join(job.Dir, "x"), Err: syscall.EROFS}
		}, runner.ReasonWorkDir, "cannot be written to"},
		"a folder that was removed": {func(_ *fixture, job runner.QuantizeJob) error {
			return errors.Join(errors.New("the tool failed"), os.RemoveAll(job.Dir))
		}, runner.ReasonWorkDir, "was removed while it ran"},
		"removed under a tool": {func(_ *fixture, job runner.QuantizeJob) error {
			return errors.Join(runner.Failf(runner.ReasonQuantize, "the tool failed"), os.RemoveAll(job.Dir))
		}, runner.ReasonWorkDir, "which led to: "},
		"a disk of models that fails": {func(f *fixture, _ runner.QuantizeJob) error {
			return &fs.PathError{Op: "read", Path: f.model.Path, Err: syscall.EIO}
		}, runner.ReasonSourceChanged, "the kernel has logged"},
		"a file elsewhere": {func(*fixture, runner.QuantizeJob) error {
			return &fs.PathError{Op: "open", Path: "/etc/x", Err: syscall.EACCES}
		}, runner.ReasonInternal, "/etc/x"},
		"an error that has": {func(*fixture, runner.QuantizeJob) error {
			return runner.Failf(runner.ReasonTimeout, "late: %w", syscall.EROFS)
		}, runner.ReasonTimeout, "late"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &engine{}
			f := newFixture(t, e, "Q8_0")
			e.quantize = func(job runner.QuantizeJob) error { return tt.quantize(f, job) }
			failure := f.failure("Q8_0", f.run(t.Context()))
			assert.Equal(t, tt.reason, failure.Reason, "%v", failure)
			require.ErrorContains(t, failure, tt.want)
		})
	}
}

// A disk that fails says nothing of the file: the pair must not be left alone as damaged.
func TestHeaderThatTheDiskDoesNotGive(t *testing.T) {
	for _, err := range []error{syscall.EIO, syscall.ESTALE, syscall.ENOTCONN} {
		f := newFixture(t, &engine{}, "Q8_0")
		f.request.Model.Err = fmt.Errorf("reading the header: %w", &fs.PathError{Op: "read", Path: f.model.Path, Err: err})
		failure := f.failure("Q8_0", f.run(t.Context()))
		assert.Equal(t, runner.ReasonSourceChanged, failure.Reason, "%v", failure)
		require.ErrorIs(t, failure, err)
	}
}

func TestWorkFolderThatCannotBeMade(t *testing.T) {
	f := newFixture(t, &engine{}, "Q8_0")
	f.options.WorkDir = filepath.Join(f.model.Path, "work") // below a file
	failure := f.failure("Q8_0", f.run(t.Context()))
	assert.Equal(t, runner.ReasonWorkDir, failure.Reason, "%v", failure)
	require.ErrorContains(t, failure, "--work.dir")
}
