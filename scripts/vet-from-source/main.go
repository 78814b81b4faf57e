// Command vet-from-source does what go vet does, for another system than this one: it type-checks all
// packages of the module and their tests, and runs the analyzers of go vet on them.
//
// go vet compiles everything that is imported for that system, which takes longer than the rest of
// lint together. This program reads the sources instead, which is enough to check types.
//
//	go run ./scripts/vet-from-source darwin/arm64
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/analysis/suite/vet"
	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) != 2 || strings.Count(os.Args[1], "/") != 1 {
		fmt.Fprintln(os.Stderr, "usage: vet-from-source SYSTEM/ARCHITECTURE, such as darwin/arm64")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "vet-from-source %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// check prints what is wrong on a platform.
func check(platform string) error {
	system, architecture, _ := strings.Cut(platform, "/")
	all, err := packages.Load(&packages.Config{
		Mode: packages.LoadAllSyntax, Tests: true,
		Env: append(os.Environ(), "GOOS="+system, "GOARCH="+architecture, "CGO_ENABLED=0"),
	}, "./...")
	if err != nil {
		return fmt.Errorf("loading the packages: %w", err)
	}
	if packages.PrintErrors(all) > 0 {
		return errors.New("these packages cannot be compiled")
	}
	graph, err := checker.Analyze(vet.Suite, all, nil)
	if err != nil {
		return fmt.Errorf("analyzing: %w", err)
	}
	found := 0
	for action := range graph.All() {
		if action.IsRoot && action.Err != nil {
			return fmt.Errorf("%s: %w", action, action.Err)
		}
		if action.IsRoot {
			found += len(action.Diagnostics)
		}
	}
	if found == 0 {
		return nil
	}
	if err := graph.PrintText(os.Stderr, -1); err != nil {
		return fmt.Errorf("printing what was found: %w", err)
	}
	return fmt.Errorf("%d findings", found)
}
