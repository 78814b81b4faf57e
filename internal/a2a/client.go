package a2a

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Secrets come from the environment: A2A_USERNAME and A2A_PASSWORD. Each is used if the
// configuration does not set its counterpart, and takes precedence over the URL. So do
// A2A_SENTINEL_USERNAME and A2A_SENTINEL_PASSWORD, which no URL can set.
type Secrets struct {
	Username, Password                 string
	SentinelUsername, SentinelPassword string
}

// SecretsOf reads the secrets by the names of variables.
func SecretsOf(getenv func(name string) string) Secrets {
	return Secrets{getenv("A2A_USERNAME"), getenv("A2A_PASSWORD"), getenv("A2A_SENTINEL_USERNAME"), getenv("A2A_SENTINEL_PASSWORD")}
}

// maxPassword bounds, in bytes, the file of a password.
const maxPassword = 64 << 10

// clientName is what CLIENT LIST shows for our connections.
const clientName = "quant-exporter"

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
	servers *connections
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
	options, cluster, err := clientOptions(cfg, secrets)
	if err != nil {
		return nil, err
	}
	// go-redis prints to a log of its own what it returns as errors as well.
	logging.Disable()
	return &client{
		servers: &connections{options: options, cluster: cluster, sentinelPasswordFile: cfg.SentinelPasswordFile},
		script:  redis.NewScript(deliverLua),
		keys:    []string{cfg.Stream, marks},
		maxLen:  cfg.MaxLen,
		timeout: time.Duration(cfg.Timeout),
	}, nil
}

// connections are those to the servers. They may be used by several goroutines.
type connections struct {
	options              *redis.UniversalOptions
	cluster              bool
	sentinelPasswordFile string

	mu     sync.Mutex
	client redis.UniversalClient // nil before the first use
	closed bool
}

// connected returns the client of the library, which connects by itself. A password that
// changed in the file of the Sentinels', which the library takes once, makes a new one.
func (s *connections) connected() (redis.UniversalClient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, redis.ErrClosed
	}
	password := s.options.SentinelPassword
	if s.sentinelPasswordFile != "" {
		text, err := disk.ReadSmall(s.sentinelPasswordFile, maxPassword)
		if err != nil {
			return nil, &credentialsError{fmt.Errorf("a2a.sentinel_password_file: %w", err)}
		}
		password = strings.TrimSpace(string(text))
	}
	if s.client != nil && password == s.options.SentinelPassword {
		return s.client, nil
	}
	if s.client != nil {
		_ = s.client.Close()
	}
	s.options.SentinelPassword = password
	// Not NewUniversalClient: it takes a list of one node for a single server.
	switch {
	case s.cluster:
		s.client = redis.NewClusterClient(s.options.Cluster())
	case s.options.MasterName != "":
		s.client = redis.NewFailoverClient(s.options.Failover())
	default:
		s.client = redis.NewClient(s.options.Simple())
	}
	return s.client, nil
}

// close ends the calls that wait for a server, too.
func (s *connections) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

// clientOptions returns the options that all kinds of servers share.
func clientOptions(cfg config.A2A, secrets Secrets) (options *redis.UniversalOptions, cluster bool, err error) {
	endpoint, err := ParseURL(cfg.URL)
	if err != nil {
		return nil, false, fmt.Errorf("a2a.url: %w", err)
	}
	timeout := time.Duration(cfg.Timeout)
	options = &redis.UniversalOptions{
		Addrs:      endpoint.Addrs,
		MasterName: endpoint.Master,
		DB:         endpoint.DB,

		CredentialsProviderContext: credentials(cfg, secrets, endpoint),
		SentinelUsername:           firstNonEmpty(cfg.SentinelUsername, secrets.SentinelUsername),
		SentinelPassword:           secrets.SentinelPassword,

		DialTimeout:  timeout,
		ReadTimeout:  timeout,
		WriteTimeout: timeout,
		// Without it go-redis goes by the timeouts above only, one after another.
		ContextTimeoutEnabled: true,
		// The relay retries, which the script makes safe.
		MaxRetries:    -1,
		DialerRetries: 1,

		Protocol: 2, // nothing that RESP3 adds is used
		// The options that name a connection use commands that a user may lack, and
		// then refuse the connection. HELLO is allowed to everybody.
		DisableIdentity: true,
		OnConnect: func(ctx context.Context, conn *redis.Conn) error {
			err := conn.Hello(ctx, 2, "", "", clientName).Err()
			if reply, ok := errors.AsType[redis.Error](err); ok && !redis.IsAuthError(reply) {
				return nil // a server before Redis 6, without HELLO
			}
			return err // that it wants a password: to the script it would only hang up
		},
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if endpoint.TLS {
		// Without a name in it, each server is checked by the one it is called by.
		options.TLSConfig, err = promconfig.NewTLSConfig(&cfg.TLS)
		if err != nil {
			return nil, false, fmt.Errorf("a2a.tls_config: %w", err)
		}
	}
	options.Dialer = guarded(redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: options.TLSConfig}))
	return options, endpoint.Kind == Cluster, nil
}

// credentials are asked for at every connection: after its file has changed, the next
// connection uses the new password.
func credentials(cfg config.A2A, secrets Secrets, endpoint Endpoint) func(context.Context) (username, password string, err error) {
	username := firstNonEmpty(cfg.Username, secrets.Username, endpoint.Username)
	password := firstNonEmpty(secrets.Password, endpoint.Password)
	return func(context.Context) (string, string, error) {
		if cfg.PasswordFile == "" {
			return username, password, nil
		}
		text, err := disk.ReadSmall(cfg.PasswordFile, maxPassword)
		if err != nil {
			return "", "", &credentialsError{fmt.Errorf("a2a.password_file: %w", err)}
		}
		return username, strings.TrimSpace(string(text)), nil
	}
}

// credentialsError says that there is no password to show to the server.
type credentialsError struct{ error }

func (e *credentialsError) Unwrap() error { return e.error }

func firstNonEmpty(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// offer hands the event to the script.
func (c *client) offer(ctx context.Context, o offer) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	server, err := c.servers.connected()
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
func (c *client) close() error { return c.servers.close() }

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
