// Command vet-from-source does what go vet does, for another system than this one: it looks for errors
// of types, and with the analyzers of go vet, in all packages of the module and their tests.
//
// go vet compiles everything that is imported for that system, which takes longer than all else that lint
// does. This reads it instead: for types, the sources are enough.
//
//	go run ./scripts/vet-from-source darwin/arm64
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/analysis/passes/appends"
	"golang.org/x/tools/go/analysis/passes/assign"
	"golang.org/x/tools/go/analysis/passes/atomic"
	"golang.org/x/tools/go/analysis/passes/bools"
	"golang.org/x/tools/go/analysis/passes/composite"
	"golang.org/x/tools/go/analysis/passes/copylock"
	"golang.org/x/tools/go/analysis/passes/defers"
	"golang.org/x/tools/go/analysis/passes/errorsas"
	"golang.org/x/tools/go/analysis/passes/httpresponse"
	"golang.org/x/tools/go/analysis/passes/ifaceassert"
	"golang.org/x/tools/go/analysis/passes/lostcancel"
	"golang.org/x/tools/go/analysis/passes/nilfunc"
	"golang.org/x/tools/go/analysis/passes/printf"
	"golang.org/x/tools/go/analysis/passes/shift"
	"golang.org/x/tools/go/analysis/passes/sigchanyzer"
	"golang.org/x/tools/go/analysis/passes/slog"
	"golang.org/x/tools/go/analysis/passes/stdmethods"
	"golang.org/x/tools/go/analysis/passes/stringintconv"
	"golang.org/x/tools/go/analysis/passes/structtag"
	"golang.org/x/tools/go/analysis/passes/testinggoroutine"
	"golang.org/x/tools/go/analysis/passes/unmarshal"
	"golang.org/x/tools/go/analysis/passes/unreachable"
	"golang.org/x/tools/go/analysis/passes/unsafeptr"
	"golang.org/x/tools/go/analysis/passes/unusedresult"
	"golang.org/x/tools/go/packages"
)

// analyzers are those of go vet that look at Go code on any system.
var analyzers = []*analysis.Analyzer{
	appends.Analyzer, assign.Analyzer, atomic.Analyzer, bools.Analyzer, composite.Analyzer, copylock.Analyzer, defers.Analyzer,
	errorsas.Analyzer, httpresponse.Analyzer, ifaceassert.Analyzer, lostcancel.Analyzer, nilfunc.Analyzer, printf.Analyzer,
	shift.Analyzer, sigchanyzer.Analyzer, slog.Analyzer, stdmethods.Analyzer, stringintconv.Analyzer, structtag.Analyzer,
	testinggoroutine.Analyzer, unmarshal.Analyzer, unreachable.Analyzer, unsafeptr.Analyzer, unusedresult.Analyzer,
}

func main() {
	if len(os.Args) != 2 || strings.Count(os.Args[1], "/") != 1 {
		fmt.Fprintln(os.Stderr, "usage: vet-from-source SYSTEM/ARCHITECTURE, such as darwin/arm64")
		os.Exit(2)
	}
	if err := vet(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "vet-from-source %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// vet prints what is wrong on a platform.
func vet(platform string) error {
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
	graph, err := checker.Analyze(analyzers, all, nil)
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
