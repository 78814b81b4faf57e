package redisconn

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Replies that servers give pass, however they arrive.
func TestRepliesPassTheGuard(t *testing.T) {
	for _, reply := range []string{
		"+OK\r\n", "-ERR no\r\n", ":1\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "$0\r\n\r\n", "$5\r\na\r\nbc\r\n", "_\r\n", "#t\r\n", ",1.5\r\n",
		"*3\r\n$5\r\nadded\r\n:7\r\n$3\r\n1-0\r\n", "%1\r\n+a\r\n*2\r\n:1\r\n*1\r\n$-1\r\n", "|1\r\n+a\r\n+b\r\n+OK\r\n",
		"*" + strings.Repeat("1\r\n*", maxDepth-1) + "1\r\n:1\r\n",
	} {
		for _, step := range []int{1, 2, 1000} {
			var s scanner
			all := strings.Repeat(reply, 3)
			for len(all) > 0 {
				n := min(step, len(all))
				require.NoError(t, s.scan([]byte(all[:n])), "%q", reply)
				all = all[n:]
			}
			assert.Empty(t, s.open, "%q", reply)
			assert.Zero(t, s.skip, "%q", reply)
			assert.Empty(t, s.line, "%q", reply)
			assert.Zero(t, s.bytes, "%q", reply)
		}
	}
}
