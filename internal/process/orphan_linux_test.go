package process_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChildDiesWithItsKilledParent(t *testing.T) {
	lock := newLock(t)
	parent := exec.Command(os.Args[0])
	parent.Env = []string{helperEnv + "=run and be killed", lockEnv + "=" + lock}
	require.EqualError(t, parent.Run(), "signal: killed")

	requireNobodyLeft(t, lock)
}
