//go:build !linux && !darwin

package disk

import (
	"errors"
	"os"
)

func reflink(*os.File, string) error { return errors.ErrUnsupported }
