package redisconn

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
)

func TestEndpointOfAURL(t *testing.T) {
	for text, want := range map[string]Endpoint{
		"redis://127.0.0.1:6379/0":  {Addrs: []string{"127.0.0.1:6379"}},
		"redis://redis":             {Addrs: []string{"redis:6379"}},
		"redis://redis/":            {Addrs: []string{"redis:6379"}},
		"redis://[::1]:7000/15":     {Addrs: []string{"[::1]:7000"}, DB: 15},
		"redis://[fe80::1%25eth0]":  {Addrs: []string{"[fe80::1%eth0]:6379"}},
		"rediss://h":                {Addrs: []string{"h:6379"}, TLS: true},
		"redis://:pass@h":           {Addrs: []string{"h:6379"}, Password: "pass"},
		"redis://user@h":            {Addrs: []string{"h:6379"}, Username: "user"},
		"redis://us%40er:p%2Fa:s@h": {Addrs: []string{"h:6379"}, Username: "us@er", Password: "p/a:s"},
		"redis://user:p@ss@h":       {Addrs: []string{"h:6379"}, Username: "user", Password: "p@ss"},

		"unix:///run/redis.sock":           {Addrs: []string{"/run/redis.sock"}},
		"unix://u:p@/run/redis.sock?db=3":  {Addrs: []string{"/run/redis.sock"}, Username: "u", Password: "p", DB: 3},
		"unix:///run/a%40b.sock":           {Addrs: []string{"/run/a@b.sock"}},
		"redis+sentinel://a,b:1/main":      {Kind: Sentinel, Addrs: []string{"a:26379", "b:1"}, Master: "main"},
		"rediss+sentinel://u:p@a/main/2":   {Kind: Sentinel, Addrs: []string{"a:26379"}, Master: "main", DB: 2, Username: "u", Password: "p", TLS: true},
		"redis+cluster://a,b:1,[::1]":      {Kind: Cluster, Addrs: []string{"a:6379", "b:1", "[::1]:6379"}},
		"rediss+cluster://:p@a:7000,b:70/": {Kind: Cluster, Addrs: []string{"a:7000", "b:70"}, Password: "p", TLS: true},
	} {
		t.Run(text, func(t *testing.T) {
			c := config.DefaultA2A().Redis
			c.URL = text
			got, err := ParseURL(text)
			require.NoError(t, err)
			assert.Equal(t, want, got)
			assert.Empty(t, Validate(c))
		})
	}
}

// Each of these names what is wrong; the password, which is hunter2 throughout, never.
func TestURLThatCannotBeUsed(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:6379":                     "it is not a URL",
		"default:hunter2@h:6379":             "it is not a URL",
		"http://:hunter2@h":                  "its scheme is not known",
		"Redis://h":                          "its scheme is not known",
		"hunter2://h":                        "its scheme is not known",
		"redis://":                           `"" is not a host`,
		"redis://:hunter2@":                  `"" is not a host`,
		"redis://:hunter2@:6379":             `":6379" is not a host`,
		"redis://::1":                        `"::1" is not a host`,
		"redis://:hunter2@h:port":            `"h:port" is not a host`,
		"redis://h:0":                        `"0" is not a port`,
		"redis://h:65536":                    `"65536" is not a port`,
		"redis://h,":                         `"" is not a host`,
		"redis://:hunter2@a,b":               "it names 2 hosts",
		"redis://:hunter2@h/db":              `"db" is not the number of a database`,
		"redis://h/-1":                       `"-1" is not the number of a database`,
		"redis://h/0/1":                      `"0/1" is not the number of a database`,
		"redis://h/99999999999":              "is not the number of a database",
		"redis://:hunter2@h?timeout=1":       "options after a ? or #",
		"redis://h?password=hunter2":         "options after a ? or #",
		"redis://h#hunter2":                  "options after a ? or #",
		"redis://:hunter2%@h":                "a % that escapes nothing",
		"redis://:hunter2/hunter2@h":         "there is an @ after the host",
		"redis://:hunter2@hunter2/hunter2@h": "there is an @ after the host",
		"redis://:hunter2?hunter2@h":         "there is an @ after the host",
		"redis://:hunter2@h/%zz":             "the part after the host is malformed",
		"unix://run/redis.sock":              "has to be absolute",
		"unix://":                            "has to be absolute",
		"unix:///s?db=x":                     `"x" is not the number of a database`,
		"unix:///s?password=hunter2":         "options that are not known",
		"redis+sentinel://:hunter2@h":        "what the Sentinels call the server",
		"redis+sentinel://h/main/x":          `"x" is not the number of a database`,
		"redis+cluster://:hunter2@h/0":       "a cluster has no databases",
	} {
		t.Run(text, func(t *testing.T) {
			c := config.DefaultA2A().Redis
			c.URL = text
			problems := Validate(c)
			require.Len(t, problems, 1)
			assert.Equal(t, "url", problems[0].Path)
			require.ErrorContains(t, problems[0].Err, want)
			assert.NotContains(t, problems[0].Err.Error(), "hunter2")
		})
	}
}

// Whatever is written before and after it, a password shows up nowhere.
func FuzzURL(f *testing.F) {
	for _, seed := range [][2]string{
		{"redis://", "h:6379/0"},
		{"unix://u", "/s?db=1"},
		{"redis+sentinel://", "a:1,b/m/1"},
		{"redis+cluster://a", "a,[::1]"},
		{"rediss://", "h/1/2#x"},
		{"redis://%", "h"},
		{"redis://a@/", "?"},
		{"x", ":1"},
	} {
		f.Add(seed[0], seed[1])
	}
	const password = "hunter2"
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, password) {
			return
		}
		c := config.DefaultA2A().Redis
		c.URL = before + ":" + password + "@" + after
		e, err := ParseURL(c.URL)
		if err == nil {
			assert.Contains(t, e.Password+e.Username, password)
			assert.NotEmpty(t, e.Addrs)
			assert.NotContains(t, c.Redacted().URL, password)
			return
		}
		assert.NotContains(t, err.Error(), password)
	})
}
