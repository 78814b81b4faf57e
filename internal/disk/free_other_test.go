//go:build !linux

package disk

import "errors"

// lookAtMounts is for a test that only Linux has.
func lookAtMounts(string) error { return errors.ErrUnsupported }
