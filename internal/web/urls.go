package web

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// plainPath is a path without escapes and wildcards.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

// safe reports whether a path means the same in a link and in a pattern of ServeMux.
func safe(prefix string) bool {
	return prefix == "" || plainPath.MatchString(prefix) && path.Clean(prefix) == prefix
}

// Mount is where people and proxies find the exporter.
type Mount struct {
	// External is where users find the exporter; its path begins every link. Nil: links
	// begin with Prefix.
	External *url.URL
	// Prefix is where the routes begin: "", or "/prefix" without a slash at its end.
	Prefix string
}

// NewMount reads --web.external-url and --web.route-prefix, each "" when it was not given,
// as Prometheus does: the prefix is the path of the external URL unless it is given
// itself, which is for a proxy that takes the path off. External is nil when it was not
// given. The error names the flag.
func NewMount(externalURL, routePrefix string) (m Mount, err error) {
	if externalURL != "" {
		if m.External, err = parseExternal(externalURL); err != nil {
			return Mount{}, fmt.Errorf("--web.external-url: %q %w; write it like https://example.org/quant", externalURL, err)
		}
		m.Prefix = m.External.Path
	}
	if routePrefix != "" {
		m.Prefix = trimPrefix(routePrefix)
		if !safe(m.Prefix) {
			return Mount{}, fmt.Errorf("--web.route-prefix: %q is not a path of letters, digits, dots, dashes, underscores and tildes; write it like /quant", routePrefix)
		}
	}
	return m, nil
}

func parseExternal(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("does not begin with http:// or https://")
	case u.Host == "":
		return nil, errors.New("names no host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("has more than scheme, host and path")
	}
	u.Path, u.RawPath = trimPrefix(u.Path), ""
	if !safe(u.Path) {
		return nil, errors.New("has a path of more than letters, digits, dots, dashes, underscores and tildes")
	}
	return u, nil
}

// trimPrefix makes "" or "/a/b" of a path.
func trimPrefix(text string) string {
	if text = strings.Trim(text, "/"); text == "" {
		return ""
	}
	return "/" + text
}
