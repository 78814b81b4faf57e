package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Depths are numbers of tokens in the KV cache. Both phases begin at the first, and generation is
// measured again at each of the others. A file may give a number in place of a list of one. An
// empty list stands for 0.
type Depths []int

// First returns the depth of both phases.
func (d Depths) First() int {
	if len(d) == 0 {
		return 0
	}
	return d[0]
}

// Further returns the depths at which generation is measured besides, the lowest first.
func (d Depths) Further() []int {
	if len(d) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(d[1:]))
}

// String returns "0" for one depth, and "[0 4096]" for two.
func (d Depths) String() string {
	if len(d) <= 1 {
		return strconv.Itoa(d.First())
	}
	return fmt.Sprint([]int(d))
}

// UnmarshalYAML reads a number or a list of numbers.
func (d *Depths) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode((*[]int)(d))
	}
	var one int
	if node.ShortTag() != "!!int" { // 1.5 would be read as 1
		return fmt.Errorf("%q is not a whole number", node.Value)
	}
	if err := node.Decode(&one); err != nil {
		return err
	}
	*d = Depths{one}
	return nil
}

// MarshalYAML writes one depth as a number.
func (d Depths) MarshalYAML() (any, error) {
	if len(d) <= 1 {
		return d.First(), nil
	}
	return []int(d), nil
}

// MarshalJSON writes one depth as a number, as it always was.
func (d Depths) MarshalJSON() ([]byte, error) {
	if len(d) <= 1 {
		return json.Marshal(d.First())
	}
	return json.Marshal([]int(d))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Depths) UnmarshalJSON(data []byte) error {
	var one int
	if json.Unmarshal(data, &one) == nil {
		*d = Depths{one}
		return nil
	}
	return json.Unmarshal(data, (*[]int)(d))
}

func (d Depths) check(report func(error)) {
	for i, depth := range d {
		switch {
		case depth < 0 || depth > maxTokens:
			report(fmt.Errorf("%d tokens cannot be in the cache: use 0 to %d", depth, maxTokens))
		case i > 0 && depth <= d[0]:
			report(fmt.Errorf("%d is not deeper than the first depth, %d: begin with the lowest, which both phases have", depth, d[0]))
		case slices.Contains(d[:i], depth):
			report(fmt.Errorf("%d is named twice", depth))
		}
	}
}

// Clients are numbers of sequences that are generated at once. The first is 1; none is [1].
type Clients []int

// Further returns the numbers beyond 1, the lowest first.
func (c Clients) Further() []int {
	if len(c) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(c[1:]))
}

// String returns "" for one client, which was all there was, and "[1 8]" for more.
func (c Clients) String() string {
	if len(c) <= 1 {
		return ""
	}
	return fmt.Sprint([]int(c))
}

// mostClients is what llama-server has slots for in a batch of any use.
const mostClients = 256

func (c Clients) check(report func(error)) {
	for i, clients := range c {
		switch {
		case i == 0 && clients != 1:
			report(fmt.Errorf("the list begins with %d: begin it with 1, by which copies are judged in any case, such as [1, %d]", clients, max(clients, 2)))
		case i > 0 && (clients < 2 || clients > mostClients):
			report(fmt.Errorf("%d sequences cannot be generated at once: use 2 to %d after the 1", clients, mostClients))
		case slices.Contains(c[:i], clients):
			report(fmt.Errorf("%d is named twice", clients))
		}
	}
}
