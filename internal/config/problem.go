package config

import "fmt"

// Problem is one value that cannot be used.
type Problem struct {
	// Path of keys, such as "engine.nice" and "schedule[0].cron"; of what a section finds,
	// below that section.
	Path string
	Line int // of the file; 0 where the section found it, which knows no lines
	Err  error
}

// problems are what is found so far.
type problems []Problem

func (p *problems) add(path, format string, args ...any) {
	p.check(path, fmt.Errorf(format, args...))
}

// check adds an error, if it is one.
func (p *problems) check(path string, err error) {
	if err != nil {
		*p = append(*p, Problem{Path: path, Err: err})
	}
}

// below names the problems of a section by their whole paths.
func below(section string, of []Problem) []Problem {
	for i := range of {
		of[i].Path = section + "." + of[i].Path
	}
	return of
}
