// Command slowbench stands in for llama-bench and makes one model look slower than it
// is by a known factor: it runs the real llama-bench with its own arguments,
// multiplies samples_ns in what comes out, and takes as much longer. Known slow-downs are how tests and
// benchmarks get rejections, for real quantized models are rarely slower.
//
//	SLOWBENCH_REAL    path of the real llama-bench
//	SLOWBENCH_MODEL   base name of the model file to slow down
//	SLOWBENCH_FACTOR  how much longer its samples shall have taken, such as 1.25
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "slowbench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	factor, err := strconv.ParseFloat(os.Getenv("SLOWBENCH_FACTOR"), 64)
	if err != nil {
		return fmt.Errorf("SLOWBENCH_FACTOR: %w", err)
	}
	cmd := exec.Command(os.Getenv("SLOWBENCH_REAL"), args...)
	cmd.Stderr = os.Stderr
	i := slices.Index(args, "-m")
	if i < 0 || i+1 >= len(args) || filepath.Base(args[i+1]) != os.Getenv("SLOWBENCH_MODEL") {
		cmd.Stdout = os.Stdout
		return cmd.Run()
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		slowed, err := slow(lines.Bytes(), factor)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", slowed)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return cmd.Wait()
}

// slow multiplies the samples of one row of -o jsonl, and waits for what they are longer then.
func slow(row []byte, factor float64) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(row, &fields); err != nil {
		return nil, fmt.Errorf("reading llama-bench's row: %w", err)
	}
	var samples []float64
	if err := json.Unmarshal(fields["samples_ns"], &samples); err != nil {
		return nil, fmt.Errorf("reading samples_ns: %w", err)
	}
	slowed := make([]int64, len(samples))
	for i, ns := range samples {
		slowed[i] = int64(ns * factor)
		time.Sleep(time.Duration(slowed[i] - int64(ns)))
	}
	text, err := json.Marshal(slowed)
	if err != nil {
		return nil, err
	}
	fields["samples_ns"] = text
	return json.Marshal(fields)
}
