package redisconn

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Kind is how the servers of an [Endpoint] belong together.
type Kind int

// The kinds.
const (
	Single   Kind = iota // one server
	Sentinel             // Sentinels that know the server
	Cluster              // some of the nodes of a Redis Cluster
)

// Endpoint is what a URL says.
type Endpoint struct {
	Kind Kind
	// Addrs are host:port, or the path of a Unix socket. A Single has one.
	Addrs  []string
	Master string // what the Sentinels call the server; else ""
	DB     int    // of a Cluster 0
	// Username and Password as in the URL, "" without. They are Redis's; Sentinels have
	// their own, which no URL gives.
	Username, Password string
	TLS                bool
}

// schemes of URLs.
var schemes = map[string]Endpoint{
	"redis":           {Kind: Single},
	"rediss":          {Kind: Single, TLS: true},
	"unix":            {Kind: Single},
	"redis+sentinel":  {Kind: Sentinel},
	"rediss+sentinel": {Kind: Sentinel, TLS: true},
	"redis+cluster":   {Kind: Cluster},
	"rediss+cluster":  {Kind: Cluster, TLS: true},
}

const forms = "redis://HOST:PORT/DB, unix:///PATH?db=DB, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB or redis+cluster://HOST:PORT,HOST:PORT (rediss with TLS)"

// ParseURL reads the URL of Redis servers:
//
//	redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]
//	unix://[[USER]:PASSWORD@]/PATH[?db=DB]
//	redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]]…/MASTER[/DB]
//	redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]]…
//
// and the same with rediss, for TLS to every server and Sentinel. The default port is
// 6379, of Sentinels 26379; the default DB is 0. The first two forms are the same as in
// go-redis and redis-cli. In a user or password, characters that are special in a URL are
// escaped (%40 for @). No error contains a user or a password.
func ParseURL(text string) (Endpoint, error) {
	e, err := parseURL(text)
	if err != nil {
		return Endpoint{}, err
	}
	return *e, nil
}

func parseURL(text string) (*Endpoint, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return nil, errors.New("it is not a URL: write " + forms)
	}
	e, known := schemes[scheme]
	if !known {
		return nil, errors.New("its scheme is not known here: write " + forms)
	}
	// The library's url.Parse knows of no lists, so that hosts and the rest go apart.
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if strings.Contains(rest, "@") {
		return nil, errors.New("there is an @ after the host: in a password write / as %2F, ? as %3F and # as %23; elsewhere @ as %40")
	}
	hosts, err := e.credentials(authority)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(rest)
	switch {
	case err != nil:
		return nil, errors.New("the part after the host is malformed: write " + forms)
	case scheme == "unix":
		return &e, e.socket(hosts, u)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("there are options after a ? or #, and none are known here: leave them out")
	}
	if err := e.servers(hosts); err != nil {
		return nil, err
	}
	return &e, e.database(strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' }))
}

// credentials takes user and password off the front of the hosts.
func (e *Endpoint) credentials(authority string) (hosts string, err error) {
	at := strings.LastIndex(authority, "@")
	if at < 0 {
		return authority, nil
	}
	user, password, _ := strings.Cut(authority[:at], ":")
	var errUser, errPassword error
	e.Username, errUser = url.PathUnescape(user)
	e.Password, errPassword = url.PathUnescape(password)
	if errUser != nil || errPassword != nil {
		return "", errors.New("the user or the password has a % that escapes nothing: write it as %25")
	}
	return authority[at+1:], nil
}

// socket reads what follows unix://.
func (e *Endpoint) socket(host string, u *url.URL) error {
	if host != "" || u.Path == "" {
		return errors.New("the path of the socket has to be absolute: write unix:///PATH")
	}
	e.Addrs = []string{u.Path}
	query := u.Query()
	db := query["db"]
	query.Del("db")
	if len(query) > 0 || u.Fragment != "" {
		return errors.New("there are options that are not known here: write unix:///PATH?db=DB")
	}
	return e.database(db)
}

// servers reads the hosts.
func (e *Endpoint) servers(list string) error {
	for server := range strings.SplitSeq(list, ",") {
		u, err := url.Parse("//" + server)
		bare := strings.Count(server, ":") > 1 && !strings.HasPrefix(server, "[") // ::1
		if err != nil || u.Hostname() == "" || bare {
			return fmt.Errorf("%q is not a host: write HOST:PORT, and an IPv6 address as [::1]:PORT", server)
		}
		port := cmp.Or(u.Port(), e.port())
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q is not a port: use 1 to 65535", port)
		}
		e.Addrs = append(e.Addrs, net.JoinHostPort(u.Hostname(), port))
	}
	if e.Kind == Single && len(e.Addrs) > 1 {
		return fmt.Errorf("it names %d hosts: write redis+sentinel or redis+cluster instead of redis, or one host", len(e.Addrs))
	}
	return nil
}

// port returns the default one.
func (e *Endpoint) port() string {
	if e.Kind == Sentinel {
		return "26379"
	}
	return "6379"
}

// database reads the path of the URL, element by element.
func (e *Endpoint) database(path []string) error {
	switch {
	case e.Kind == Cluster && len(path) > 0:
		return errors.New("a cluster has no databases: leave out what follows the hosts")
	case e.Kind == Sentinel && len(path) == 0:
		return errors.New("it does not say what the Sentinels call the server: write redis+sentinel://HOST:PORT/MASTER/DB")
	case e.Kind == Sentinel:
		e.Master, path = path[0], path[1:]
	}
	if len(path) == 0 {
		return nil
	}
	db, err := strconv.ParseUint(path[0], 10, 31)
	if err != nil || len(path) > 1 {
		return fmt.Errorf("%q is not the number of a database: use 0 or more", strings.Join(path, "/"))
	}
	e.DB = int(db)
	return nil
}
