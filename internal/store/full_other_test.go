//go:build !linux

package store

import "errors"

func fillTheDisk(string) error { return errors.New("needs mount namespaces") }

func remount(string) error { return errors.New("needs mount namespaces") }
