// Package publish puts quantized copies in place, for servers to take them from.
//
// # Layout
//
// For a directory DIR, a model M and a target T:
//
//	DIR/M/T/VERSION/NAME-T.gguf     the copy; NAME is the last part of M
//	DIR/M/T/VERSION/manifest.json   what it is and how it came about: see Manifest
//	DIR/M/T/stable -> VERSION       the copy to serve
//	DIR/M/stable -> T/VERSION       the same, where one target of the model is chosen
//
// On a file system without symbolic links, such as SMB and exFAT, stable is a regular file of
// one line, which says where the link would lead.
//
// VERSION is the first 12 digits of the copy's SHA-256, so that the same content is one version,
// however often it is published.
//
// # Guarantees
//
// A version appears whole, with its manifest, or not at all: it is made below
// DIR/.incoming, written to the disk, loaded by the engine, and then renamed. A stable link
// is replaced by renaming, after what it leads to is on the disk. So whatever is killed, or
// loses its power, at whatever moment: the link leads to the copy before or to the new one,
// and both are whole. A version that is no longer kept is renamed away before it is removed;
// so is one whose publication failed.
//
// Files that are not ours are left as they are, and the publication fails if they are in the
// way: a link that leads elsewhere, a version without a manifest, or with one that names
// another model or target. No symbolic link of another user is followed below DIR, and no
// version that is a link is taken for one. After the engine has loaded a copy, its content is
// compared with what was measured once more.
//
// Several processes, also on several hosts, may publish in one directory, as far as its
// file system locks files with flock(2); of the same pair the last one wins.
package publish
