package store

import (
	"errors"
	"fmt"

	"github.com/quant-exporter/quant-exporter/internal/disk"
)

// Temporary opens a new state in a working directory below parent. Close removes the
// directory with everything in it; if the process is killed before, a later disk.Sweep does.
func Temporary(parent string, o Options) (*Store, error) {
	dir, err := disk.NewDir(parent)
	if err != nil {
		return nil, fmt.Errorf("making a folder for a state that is not kept: %w", err)
	}
	s, err := Open(dir.Path(), o)
	if err != nil {
		return nil, errors.Join(err, dir.Remove())
	}
	unlock := s.unlock
	s.unlock = func() {
		unlock()
		if err := dir.Remove(); err != nil {
			s.logger.Error("the folder of a state that is not kept stays behind until the next start", "dir", dir.Path(), "err", err)
		}
	}
	return s, nil
}
