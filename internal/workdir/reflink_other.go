//go:build !linux && !darwin

package workdir

import (
	"errors"
	"os"
)

func reflink(*os.File, string) error { return errors.ErrUnsupported }
