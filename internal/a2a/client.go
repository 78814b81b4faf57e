package a2a

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Secrets come from the environment: A2A_USERNAME and A2A_PASSWORD, and the same of Sentinels.
type Secrets = redisconn.Secrets

// SecretsOf reads the secrets by the names of variables.
func SecretsOf(getenv func(name string) string) Secrets { return redisconn.SecretsOf("A2A", getenv) }

//go:embed deliver.lua
var deliverLua string

// offer is an event and what the script has to know beside it.
type offer struct {
	store.Event
	previous string // ID of the event before it; "" when it is not known
	base     uint64 // number of the producer's last event that is no longer kept
	after    last
}

// last is the last event of a producer; zero when there is none.
type last struct {
	producer string
	number   uint64
}

// The outcomes of an offer: see deliver.lua.
const (
	added     = "added"
	duplicate = "duplicate"
	gap       = "gap"
	conflict  = "conflict"
	behind    = "behind"
)

// answer is what the script returns: see deliver.lua.
type answer struct {
	outcome string
	mark    uint64
	id      string
}

// client offers events to Redis. It never tries twice, and no call takes longer than the
// configured timeout.
type client struct {
	servers *redisconn.Connections
	script  *redis.Script
	keys    []string // of the script
	maxLen  int
	timeout time.Duration
}

// newClient connects to nothing yet.
func newClient(cfg config.A2A, secrets Secrets) (*client, error) {
	marks, err := marksKey(cfg.Stream)
	if err != nil {
		return nil, fmt.Errorf("a2a.stream: %w", err)
	}
	servers, err := redisconn.New("a2a", cfg.Redis, secrets)
	if err != nil {
		return nil, err
	}
	return &client{
		servers: servers,
		script:  redis.NewScript(deliverLua),
		keys:    []string{cfg.Stream, marks},
		maxLen:  cfg.MaxLen,
		timeout: time.Duration(cfg.Timeout),
	}, nil
}

// offer hands the event to the script.
func (c *client) offer(ctx context.Context, o offer) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	server, err := c.servers.Client()
	if err != nil {
		return answer{}, err
	}
	reply, err := c.script.Run(ctx, server, c.keys,
		o.Producer, o.Number, o.ID, o.previous, o.base, c.maxLen, o.Type, []byte(o.Data), o.after.producer, o.after.number).Slice()
	if err != nil {
		return answer{}, err
	}
	if len(reply) == 3 {
		outcome, isOutcome := reply[0].(string)
		mark, isMark := reply[1].(int64)
		id, isID := reply[2].(string)
		if isOutcome && isMark && isID && mark >= 0 {
			return answer{outcome, uint64(mark), id}, nil
		}
	}
	return answer{}, fmt.Errorf("%w: %q", errAnswer, fmt.Sprint(reply))
}

// errAnswer is a fault of the server, or of something between.
var errAnswer = errors.New("the script returned something that it never returns")

// close ends the calls that wait for the server, too.
func (c *client) close() error { return c.servers.Close() }

// marksKey returns the key of a stream's marks, in the same slot of a cluster. The slot
// depends on the part in braces if there is one, else on the whole name.
// (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags)
func marksKey(stream string) (string, error) {
	_, rest, opened := strings.Cut(stream, "{")
	tag, _, closed := strings.Cut(rest, "}")
	switch {
	case opened && closed && tag != "":
		return stream + ":producers", nil
	case strings.ContainsAny(stream, "{}"):
		return "", fmt.Errorf("the braces of %q name no hash tag: write it as in {a2a}:events, or without braces", stream)
	default:
		return "{" + stream + "}:producers", nil
	}
}
