package a2a

import (
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/redisconn"
)

// Validate returns the problems of the section that only the bus can find, as far as they
// show without reading files or connecting. No message contains a part of the URL that may
// be secret.
func Validate(c config.A2A) []config.Problem {
	problems := redisconn.Validate(c.Redis)
	if c.Stream != "" {
		if _, err := marksKey(c.Stream); err != nil {
			problems = append(problems, config.Problem{Path: "stream", Err: err})
		}
	}
	return problems
}
