package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
)

// SecretsOf reads FLEET_USERNAME, FLEET_PASSWORD and the same of Sentinels.
func SecretsOf(getenv func(name string) string) redisconn.Secrets {
	return redisconn.SecretsOf("FLEET", getenv)
}

// link is a way to the fleet's Redis.
type link struct {
	config      config.Fleet
	connections *redisconn.Connections
	redis       redis.UniversalClient
	queue       *asynq.Client
	tasks       *asynq.Inspector
}

// newLink does not connect. It fails as redisconn.New does.
func newLink(c config.Fleet, secrets redisconn.Secrets) (*link, error) {
	connections, err := redisconn.New("fleet", c.Redis, secrets)
	if err != nil {
		return nil, err
	}
	client, err := connections.Client()
	if err != nil {
		return nil, err
	}
	return &link{
		config: c, connections: connections, redis: client,
		queue: asynq.NewClientFromRedisClient(client), tasks: asynq.NewInspectorFromRedisClient(client),
	}, nil
}

func (l *link) close() { _ = l.connections.Close() }

// queueOf returns the queue of a class.
func (l *link) queueOf(class string) string { return l.config.Prefix + ":" + class }

// keysOf returns the keys of a cycle and of its results, in one slot of a cluster.
func (l *link) keysOf(cycle string) []string {
	base := l.config.Prefix + ":{" + cycle + "}:"
	return []string{base + "cycle", base + "results"}
}

func (l *link) workersKeys() []string {
	base := l.config.Prefix + ":{workers}:"
	return []string{base + "said", base + "heard"}
}

// lead takes or keeps the right to give new cycles, for so long; 0 gives it back. It returns the name
// of another coordinator that has it, or "".
func (l *link) lead(ctx context.Context, name string, hold time.Duration) (other string, err error) {
	return redis.NewScript(leadLua).Run(ctx, l.redis, []string{l.config.Prefix + ":{coordinator}:leads"}, name, seconds(hold)).Text()
}

// UnfitError says why a Redis that answers cannot hold a fleet.
type UnfitError struct{ why string }

// Error says what to do about it.
func (e *UnfitError) Error() string { return e.why }

// The oldest Redis that will do.
const oldestMajor, oldestMinor = 6, 2

// check returns an *UnfitError if the server cannot hold a fleet.
func (l *link) check(ctx context.Context) error {
	text, err := l.redis.Info(ctx).Result()
	if err != nil {
		return err
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			info[name] = value
		}
	}
	version := strings.Split(info["redis_version"]+".", ".")
	major, _ := strconv.Atoi(version[0])
	minor, _ := strconv.Atoi(version[1])
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return &UnfitError{fmt.Sprintf("fleet.url names Redis %s: use %d.%d or newer", info["redis_version"], oldestMajor, oldestMinor)}
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		return &UnfitError{fmt.Sprintf("the Redis of fleet.url removes keys when its memory is full (maxmemory-policy %s), and with them cycles: set maxmemory-policy noeviction", policy)}
	}
	return nil
}

// Check connects to the Redis of a section, and returns an error if it cannot be used.
func Check(ctx context.Context, c config.Fleet, secrets redisconn.Secrets) error {
	l, err := newLink(c, secrets)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.check(ctx); err != nil {
		if errors.As(err, new(*UnfitError)) {
			return err
		}
		return fmt.Errorf("fleet.url: Redis cannot be used: %w", err)
	}
	return nil
}

// queueLog passes on what asynq logs. It says what can go wrong, and will be tried again, as
// errors; none of it ends the process.
type queueLog struct{ *slog.Logger }

func (l queueLog) Debug(args ...any) { l.Logger.Debug(said(args)) }
func (l queueLog) Info(args ...any)  { l.Logger.Debug(said(args)) }
func (l queueLog) Warn(args ...any)  { l.Logger.Debug(said(args)) }
func (l queueLog) Error(args ...any) {
	l.Logger.Warn("the queue cannot be used; it is tried again", "err", said(args))
}

func (l queueLog) Fatal(args ...any) { l.Logger.Error("the queue cannot be used", "err", said(args)) }

func said(args []any) string { return fmt.Sprint(args...) }
