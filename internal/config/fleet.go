package config

import (
	"fmt"
	"regexp"
	"strconv"
)

// Fleet is the section `fleet:`, the Redis through which cycles go to workers on other hosts.
type Fleet struct {
	// Redis is 6.2 or newer, and evicts nothing. Default: there is no fleet, and every cycle
	// runs on this host.
	Redis `yaml:",inline"`
	// Prefix begins the names of the fleet's keys and queues, so that several fleets can share
	// a server. Default quant.
	Prefix string `yaml:"prefix"`
}

// DefaultFleet has no server.
func DefaultFleet() Fleet { return Fleet{Redis: defaultRedis(), Prefix: "quant"} }

// Enabled reports whether there is a fleet.
func (c Fleet) Enabled() bool { return c.URL != "" }

// Validate finds every value that cannot be used, but for what package redisconn finds.
func (c Fleet) Validate() []Problem {
	found := problems(c.Redis.Validate())
	found.check("prefix", CheckClass(c.Prefix))
	return found
}

// Redacted returns the section without its secrets, as [Redis.Redacted] does.
func (c Fleet) Redacted() Fleet {
	c.Redis = c.Redis.Redacted()
	return c
}

// maxClass bounds the name of a class, which is part of keys and a label.
const maxClass = 63

var className = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// CheckClass returns an error if a class of hardware cannot have the name.
func CheckClass(name string) error {
	if len(name) > maxClass || !className.MatchString(name) {
		return fmt.Errorf("%s cannot be used: use 1 to %d letters, digits, dots, dashes and underscores, a letter or digit first", strconv.Quote(clip(name)), maxClass)
	}
	return nil
}

// Classes returns the classes on which the entry decides: On, or else "", which stands for this
// host.
func (e *Entry) Classes() []string {
	if len(e.On) == 0 {
		return []string{""}
	}
	return e.On
}

// checkFleet finds what does not go with cycles on other hosts, in c.
func (e *Entry) checkFleet(c *Config) (found problems) {
	if len(e.On) == 0 {
		return nil
	}
	found.check("on", checkList(e.On, "classes of hardware, such as h100", func(class string) string { return class }))
	for _, class := range e.On {
		if class != "" {
			found.check("on", CheckClass(class))
		}
	}
	found.check("engine.bench_args", CheckRemoteArgs(e.Engine.BenchArgs))
	found.check("engine.evaluate_args", CheckRemoteArgs(e.Engine.EvaluateArgs))
	found.check("engine.quantize_args", CheckRemoteQuantizeArgs(e.Engine.QuantizeArgs))
	if !c.Fleet.Enabled() {
		found.add("on", "there is no fleet: give its Redis as fleet.url, or leave on out to run on this host")
	}
	if e.Against != "" {
		found.add("against", "names a file of this host, and on gives the cycle to others: leave one of them out")
	}
	if e.Publish.Enabled() {
		found.add("publish", "publishes on this host, and on makes the copies on others: leave one of them out, for the entry with publish: {dir: \"\"}")
	}
	return found
}
