package a2a

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

// hostile are replies by which a server would take memory, or end the process.
var hostile = map[string]string{
	"a text of 2^63-1 bytes":     "$9223372036854775807\r\n",
	"a text of -2 bytes":         "$-2\r\n",
	"an error of many bytes":     "!4294967296\r\n",
	"a list of 2^63-1 items":     "*9223372036854775807\r\n",
	"a map of 2^62 pairs":        "%4611686018427387904\r\n",
	"lists in lists":             strings.Repeat("*1\r\n", 10_000_000),
	"an endless line":            "+" + strings.Repeat("x", 10_000_000),
	"an endless length":          "$" + strings.Repeat("1", 10_000_000),
	"many texts":                 "*60000\r\n" + strings.Repeat("$1000\r\n"+strings.Repeat("x", 1000)+"\r\n", 10_000),
	"a stream of unknown length": "$?\r\n",
}

func TestHostileServersEndNothing(t *testing.T) {
	for name, reply := range hostile {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer listener.Close()
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						_, _ = conn.Read(make([]byte, 1<<10))
						_, _ = io.WriteString(conn, reply)
						_, _ = io.Copy(io.Discard, conn)
					}()
				}
			}()
			cfg := config.DefaultA2A()
			cfg.URL = "redis://" + listener.Addr().String()
			c, err := newClient(cfg, Secrets{})
			require.NoError(t, err)
			defer func() { require.NoError(t, c.close()) }()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err = c.offer(ctx, offer{})
			require.Error(t, err)
			assert.Equal(t, ReasonOther, reasonOf(err), "%v", err)
		})
	}
}
