package fleet

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lead.lua
	leadLua string
	//go:embed open.lua
	openLua string
	//go:embed guard.lua
	guardLua string
	//go:embed beat.lua
	beatLua string
	//go:embed append.lua
	appendLua string
	//go:embed cancel.lua
	cancelLua string
	//go:embed end.lua
	endLua string
	//go:embed present.lua
	presentLua string
)

// keep is how long Redis keeps what belongs to a cycle after it was last written to: longer
// than anybody waits for a worker to come back.
const keep = 30 * 24 * time.Hour

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// What scripts return first: see the files.
const (
	replyOK         = "ok"
	replyForeign    = "foreign"
	replyNewer      = "newer"
	replyEnded      = "ended"
	replySuperseded = "superseded"
	replyTaken      = "taken"
	replyUnknown    = "unknown"
	replyLate       = "late"
)

// reply is what a script returned.
type reply []any

func (r reply) text(i int) string {
	if i >= len(r) {
		return ""
	}
	return fmt.Sprint(r[i])
}

func (r reply) number(i int) int64 {
	n, _ := strconv.ParseInt(r.text(i), 10, 64)
	return n
}

// errReply is a fault of the server, or of something between.
var errReply = errors.New("the script returned something that it never returns")

// call runs a script.
func (l *link) call(ctx context.Context, source string, keys []string, args ...any) (reply, error) {
	answer, err := redis.NewScript(source).Run(ctx, l.redis, keys, args...).Slice()
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 {
		return nil, errReply
	}
	return answer, nil
}

// callNumber runs a script that returns a number.
func (l *link) callNumber(ctx context.Context, source string, keys []string, args ...any) (int64, error) {
	return redis.NewScript(source).Run(ctx, l.redis, keys, args...).Int64()
}
