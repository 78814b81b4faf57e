// Package redisconn connects to Redis as the sections `a2a:` and `fleet:` of the configuration
// say: to one server, by Sentinels or in a cluster, with TLS, with a user and a password that
// may change in its file.
//
// No command is tried twice, and none takes longer than the configured timeout. What a server
// replies is watched, so that none makes this process run out of memory. No message contains
// a password.
package redisconn

import (
	"context"
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
)

// Secrets come from the environment: see SecretsOf. Each is used if the configuration does not
// set its counterpart, and takes precedence over the URL. No URL can set the secrets of Sentinels.
type Secrets struct {
	Username, Password                 string
	SentinelUsername, SentinelPassword string
}

// SecretsOf reads the secrets by the names of variables: of the prefix A2A, they are
// A2A_USERNAME, A2A_PASSWORD, A2A_SENTINEL_USERNAME and A2A_SENTINEL_PASSWORD.
func SecretsOf(prefix string, getenv func(name string) string) Secrets {
	of := func(name string) string { return getenv(prefix + "_" + name) }
	return Secrets{of("USERNAME"), of("PASSWORD"), of("SENTINEL_USERNAME"), of("SENTINEL_PASSWORD")}
}

// maxPassword bounds, in bytes, the file of a password.
const maxPassword = 64 << 10

// clientName is what CLIENT LIST shows for our connections.
const clientName = "quant-exporter"

// Validate returns the problems of a section's settings that show without reading files or
// connecting. No message contains a part of the URL that may be secret.
func Validate(c config.Redis) []config.Problem {
	var problems []config.Problem
	add := func(path, format string, args ...any) {
		problems = append(problems, config.Problem{Path: path, Err: fmt.Errorf(format, args...)})
	}
	if c.URL == "" {
		return nil
	}
	endpoint, err := ParseURL(c.URL)
	switch {
	case err != nil:
		add("url", "%w", err)
	case !endpoint.TLS && c.TLS != promconfig.TLSConfig{}:
		add("tls_config", "it has no effect, as the url does not ask for TLS: write rediss instead of redis there")
	}
	if err == nil && endpoint.Kind != Sentinel {
		const only = "it has no effect, as the url names no Sentinels: write redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB there"
		if c.SentinelUsername != "" {
			add("sentinel_username", only)
		}
		if c.SentinelPasswordFile != "" {
			add("sentinel_password_file", only)
		}
	}
	return problems
}

// ValidateFleet is Validate for the section of the fleet.
func ValidateFleet(c config.Fleet) []config.Problem { return Validate(c.Redis) }

// New makes the connections of a section of the configuration, which [Validate] accepts. It
// does not connect; it fails for a file of tls_config that cannot be read, for one. section
// names the section in messages.
func New(section string, cfg config.Redis, secrets Secrets) (*Connections, error) {
	options, cluster, err := clientOptions(section, cfg, secrets)
	if err != nil {
		return nil, err
	}
	// go-redis prints to a log of its own what it returns as errors as well.
	logging.Disable()
	return &Connections{section: section, options: options, cluster: cluster, sentinelPasswordFile: cfg.SentinelPasswordFile}, nil
}

// Connections are those to the servers of a section. They may be used by several goroutines.
type Connections struct {
	section              string // of the configuration, for messages
	options              *redis.UniversalOptions
	cluster              bool
	sentinelPasswordFile string

	mu     sync.Mutex
	client redis.UniversalClient // nil before the first use
	closed bool
}

// Client returns the client of the library, which connects by itself. A password that
// changed in the file of the Sentinels', which the library takes once, makes a new one.
func (s *Connections) Client() (redis.UniversalClient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, redis.ErrClosed
	}
	password := s.options.SentinelPassword
	if s.sentinelPasswordFile != "" {
		text, err := disk.ReadSmall(s.sentinelPasswordFile, maxPassword)
		if err != nil {
			return nil, &CredentialsError{fmt.Errorf("%s.sentinel_password_file: %w", s.section, err)}
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

// Close ends the calls that wait for a server, too.
func (s *Connections) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

// clientOptions returns the options that all kinds of servers share.
func clientOptions(section string, cfg config.Redis, secrets Secrets) (options *redis.UniversalOptions, cluster bool, err error) {
	endpoint, err := ParseURL(cfg.URL)
	if err != nil {
		return nil, false, fmt.Errorf("%s.url: %w", section, err)
	}
	timeout := time.Duration(cfg.Timeout)
	options = &redis.UniversalOptions{
		Addrs:      endpoint.Addrs,
		MasterName: endpoint.Master,
		DB:         endpoint.DB,

		CredentialsProviderContext: credentials(section, cfg, secrets, endpoint),
		SentinelUsername:           firstNonEmpty(cfg.SentinelUsername, secrets.SentinelUsername),
		SentinelPassword:           secrets.SentinelPassword,

		DialTimeout:  timeout,
		ReadTimeout:  timeout,
		WriteTimeout: timeout,
		// Without it go-redis goes by the timeouts above only, one after another.
		ContextTimeoutEnabled: true,
		// Whoever calls tries again, where that is safe.
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
			return nil, false, fmt.Errorf("%s.tls_config: %w", section, err)
		}
	}
	options.Dialer = guarded(redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: options.TLSConfig}))
	return options, endpoint.Kind == Cluster, nil
}

// credentials are asked for at every connection: after its file has changed, the next
// connection uses the new password.
func credentials(section string, cfg config.Redis, secrets Secrets, endpoint Endpoint) func(context.Context) (username, password string, err error) {
	username := firstNonEmpty(cfg.Username, secrets.Username, endpoint.Username)
	password := firstNonEmpty(secrets.Password, endpoint.Password)
	return func(context.Context) (string, string, error) {
		if cfg.PasswordFile == "" {
			return username, password, nil
		}
		text, err := disk.ReadSmall(cfg.PasswordFile, maxPassword)
		if err != nil {
			return "", "", &CredentialsError{fmt.Errorf("%s.password_file: %w", section, err)}
		}
		return username, strings.TrimSpace(string(text)), nil
	}
}

// CredentialsError says that there is no password to show to the server.
type CredentialsError struct{ error }

// Unwrap returns the wrapped error to errors.Is and errors.As.
func (e *CredentialsError) Unwrap() error { return e.error }

func firstNonEmpty(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
