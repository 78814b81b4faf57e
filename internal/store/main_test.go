package store

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// The test binary is one of these children where the environment names it, with the
// directory to work in as its argument.
const childEnv = "QUANT_EXPORTER_TEST_STORE"

func TestMain(m *testing.M) {
	child := map[string]func(dir string) error{
		"":        nil,
		"kill":    commitUntilKilled,
		"full":    fillTheDisk,
		"remount": remount,
	}[os.Getenv(childEnv)]
	if child == nil {
		os.Exit(m.Run())
	}
	if err := child(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childCommand(name, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	return cmd
}
