package config

import "fmt"

// Problem is one value that cannot be used.
type Problem struct {
	Path string // of keys, below the section that reports it, such as "rounds.min"
	Err  error
}

// problems are collected by the one section that reports them.
type problems []Problem

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, Problem{path, fmt.Errorf(format, args...)})
}

// below names the problems of a section by their whole paths.
func below(section string, of []Problem) []Problem {
	for i := range of {
		of[i].Path = section + "." + of[i].Path
	}
	return of
}
