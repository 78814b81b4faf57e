// Package gguf reads the header of GGUF files: what a model is, its tensors and how
// large its file must be. The tensors' data are never read.
//
// The format, versions 2 and 3, little-endian, is described in ggml's documentation
// (docs/gguf.md in ggml's repository); this is how its loader (ggml/src/gguf.cpp) enforces it:
//
//	magic "GGUF", version uint32, tensor count uint64, metadata count uint64
//	metadata: key string, value type uint32, value
//	tensors:  name string, dimension count uint32, dimensions uint64 each,
//	          type uint32, offset uint64 from the start of the data
//	padding to the alignment, then the data
//
// A parser of our own and not a library, because a header is hostile input: it comes
// with files of anyone's making, into a process that has to keep serving. Here
// nothing is allocated by what a file claims. A token list is skipped and never held,
// everything that is kept has a limit, and a header as a whole may have 128 MiB, so
// memory and time stay bounded on a file of any size. The library that was weighed
// against this, gguf-parser-go v0.28.1, takes lengths up to the file's size at their
// word: a sparse file of 100 GiB with 80 bytes of header ends the process in the
// runtime's out-of-memory error, which nothing can recover from.
package gguf
