package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/store"
)

// Client asks an exporter that serves for what it has stored. Its errors name the exporter.
// Its methods may be called by many goroutines at once.
type Client struct {
	base *url.URL
	http *http.Client
}

// NewClient makes a client of the exporter at a URL, below which its paths begin.
// configFile has credentials and TLS in the form of Prometheus' http_config; "" means none.
func NewClient(address, configFile string) (*Client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the URL of an exporter: write it like http://localhost:10180", address)
	}
	settings := &promconfig.HTTPClientConfig{FollowRedirects: true}
	if configFile != "" {
		if settings, _, err = promconfig.LoadHTTPConfigFile(configFile); err != nil {
			return nil, fmt.Errorf("reading credentials and TLS from %s: %w", configFile, err)
		}
	}
	client, err := promconfig.NewClientFromConfig(*settings, "exporter", promconfig.WithUserAgent(version.ComponentUserAgent("quant-exporter")))
	if err != nil {
		return nil, fmt.Errorf("taking credentials and TLS from %s: %w", configFile, err)
	}
	return &Client{base, client}, nil
}

// String returns the URL of the exporter, without a password.
func (c *Client) String() string { return c.base.Redacted() }

// Events returns all events of a delivery, or all for "", the oldest first.
func (c *Client) Events(ctx context.Context, delivery store.Delivery) ([]store.Event, error) {
	var all []store.Event
	query := url.Values{"limit": {strconv.Itoa(mostEvents)}, "delivery": {string(delivery)}}
	for {
		var page struct {
			Data eventsPage `json:"data"`
		}
		err := c.ask(ctx, http.MethodGet, "/api/v1/events?"+query.Encode(), func(body io.Reader) error {
			return json.NewDecoder(body).Decode(&page)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Data.Events...)
		if page.Data.NextAfter == nil {
			return all, nil
		}
		query.Set("after", strconv.FormatUint(*page.Data.NextAfter, 10))
	}
}

// Export writes the whole state to w as JSON lines. After an error w has a part of it.
func (c *Client) Export(ctx context.Context, w io.Writer) error {
	return c.ask(ctx, http.MethodGet, "/api/v1/export", copyTo(w))
}

// Backup writes a copy of the state's file to w. After an error w has a part of it. The
// exporter makes one only with --web.enable-admin-api.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	return c.ask(ctx, http.MethodPost, "/api/v1/admin/backup", copyTo(w))
}

func copyTo(w io.Writer) func(io.Reader) error {
	return func(body io.Reader) error {
		_, err := io.Copy(w, body)
		return err
	}
}

// ask reads the answer to a request, unless it is a refusal.
func (c *Client) ask(ctx context.Context, method, path string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base.String(), "/")+path, nil)
	if err != nil {
		return fmt.Errorf("asking the exporter at %s: %w", c, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if of, ok := errors.AsType[*url.Error](err); ok { // which names method and URL again
			err = of.Err
		}
		return fmt.Errorf("asking the exporter at %s: %w", c, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return &RefusedError{c.String(), response.StatusCode, refusalIn(response)}
	}
	if err := read(response.Body); err != nil {
		return fmt.Errorf("reading the answer of the exporter at %s: %w", c, err)
	}
	return nil
}

// RefusedError says that an exporter, or a server in its place, gave another answer than
// was asked for.
type RefusedError struct {
	Exporter string // its URL
	Status   int
	Text     string // of the answer
}

// Error names the exporter, and says what it answered.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the exporter at %s answered %d %s: %s", e.Exporter, e.Status, http.StatusText(e.Status), e.Text)
}

// refusalIn returns the error in an answer of the API, or the beginning of any other answer.
func refusalIn(response *http.Response) string {
	const most = 500
	body, _ := io.ReadAll(io.LimitReader(response.Body, most)) // what came of it
	var a answer
	if json.Unmarshal(body, &a) == nil && a.Error != "" {
		return a.Error
	}
	return cmp.Or(strings.TrimSpace(string(body)), "no reason is given")
}

// mostWebConfig bounds the bytes that are read of a web configuration.
const mostWebConfig = 1 << 20

// LocalURL returns the URL at which this host reaches a server with these flags that listens
// on these addresses; "" when none of them is a TCP address.
func LocalURL(flags *toolkit.FlagConfig, addresses []net.Addr, mount Mount) (string, error) {
	u := url.URL{Scheme: "http", Path: mount.Prefix}
	if file := *flags.WebConfigFile; file != "" {
		text, err := disk.ReadSmall(file, mostWebConfig)
		var config struct {
			TLS toolkit.TLSConfig `yaml:"tls_server_config"`
		}
		if err == nil {
			err = yaml.Unmarshal(text, &config)
		}
		if err != nil {
			return "", fmt.Errorf("--web.config.file %s: %w", file, err)
		}
		if config.TLS.IsEnabled() {
			u.Scheme = "https"
		}
	}
	for _, address := range addresses {
		tcp, ok := address.(*net.TCPAddr)
		if !ok {
			continue
		}
		host := tcp.IP.String()
		if tcp.IP.IsUnspecified() {
			host = "localhost"
		}
		u.Host = net.JoinHostPort(host, strconv.Itoa(tcp.Port))
		return u.String(), nil
	}
	return "", nil
}
