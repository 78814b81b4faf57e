//go:build !linux

package disk

// DropCache does nothing: this system has no call for it.
func DropCache(string) error { return nil }
