package store

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"unique"

	"go.etcd.io/bbolt"
)

// Counter names a counter by its kind and its labels; a label that counters of the kind do
// not have is "".
type Counter struct {
	Kind                         CounterKind
	Entry, Model, Source, Target string
	By                           string // the result, reason, gate or input
	Class                        string // as in PairID
}

// Counters are counters and how far they have come; one that is not there is 0. Each commit
// copies them all, so the map holds a word for a counter in place of its names.
type Counters map[unique.Handle[Counter]]uint64

// NewCounters makes Counters of a map.
func NewCounters(values map[Counter]uint64) Counters {
	counters := make(Counters, len(values))
	for counter, n := range values {
		counters[unique.Make(counter)] = n
	}
	return counters
}

// Of returns how far a counter has come.
func (c Counters) Of(counter Counter) uint64 { return c[unique.Make(counter)] }

// All returns the counters that are not 0, in no order.
func (c Counters) All() iter.Seq2[Counter, uint64] {
	return func(yield func(Counter, uint64) bool) {
		for handle, n := range c {
			if !yield(handle.Value(), n) {
				return
			}
		}
	}
}

// CounterKind says what a counter counts.
type CounterKind string

// The kinds.
const (
	CountDecision        CounterKind = "decision"
	CountFailure         CounterKind = "failure"
	CountRejection       CounterKind = "rejection"
	CountSkipped         CounterKind = "skipped"          // runs and pairs
	CountInputChange     CounterKind = "input_change"     // each input once in a cycle
	CountDelivered       CounterKind = "delivered"        // events that the bus has taken, each once
	CountDeliveryFailure CounterKind = "delivery_failure" // attempts
	CountPublishFailure  CounterKind = "publish_failure"  // copies

	// Only of what was pruned.
	countChange CounterKind = "change" // of a pair, or of a model's choice
	countEvent  CounterKind = "event"  // by delivery
)

// labels returns the names of a kind's labels, in the order of the labels of its metric.
func (k CounterKind) labels() []string {
	switch k {
	case CountDecision:
		return []string{"result", "model_name", "source_format", "target_format"}
	case CountFailure:
		return []string{"model_name", "reason"}
	case CountRejection:
		return []string{"model_name", "target_format", "gate"}
	case CountSkipped:
		return []string{"entry", "reason"}
	case CountInputChange:
		return []string{"model_name", "input"}
	case CountDeliveryFailure:
		return []string{"reason"}
	case CountPublishFailure:
		return []string{"model_name", "target_format"}
	default:
		return nil
	}
}

func (c Counter) label(name string) string {
	switch name {
	case "entry":
		return c.Entry
	case "model_name":
		return c.Model
	case "source_format":
		return c.Source
	case "target_format":
		return c.Target
	default:
		return c.By
	}
}

// Labels returns the values of the counter's labels, in the order of the labels of its metric.
func (c Counter) Labels() []string {
	var values []string
	for _, name := range c.Kind.labels() {
		values = append(values, c.label(name))
	}
	return values
}

// key returns what the counter is stored under. No name contains the separator: see checkName.
func (c Counter) key() []byte {
	fields := []string{string(c.Kind), c.Entry, c.Model, c.Source, c.Target, c.By}
	if c.Class != "" {
		fields = append(fields, c.Class)
	}
	return []byte(strings.Join(fields, "\x00"))
}

func counterAt(key []byte) (Counter, error) {
	f := strings.Split(string(key), "\x00")
	switch {
	case len(f) == 6:
		f = append(f, "")
	case len(f) != 7 || f[6] == "": // which would be a second key of the same counter
		return Counter{}, fmt.Errorf("%q is not a key of a counter", key)
	}
	return Counter{CounterKind(f[0]), f[1], f[2], f[3], f[4], f[5], f[6]}, nil
}

// readCounters reads all counters of a bucket.
func readCounters(tx *bbolt.Tx, bucket string) (Counters, error) {
	counters := Counters{}
	err := tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
		counter, err := counterAt(k)
		if err != nil {
			return err
		}
		counters[unique.Make(counter)], err = numberAt(v)
		return err
	})
	return counters, err
}

// exportedCounter returns a counter as a JSON object.
func exportedCounter(c Counter, n uint64) ([]byte, error) {
	labels := map[string]string{}
	for _, name := range c.Kind.labels() {
		labels[name] = c.label(name)
	}
	if c.Class != "" {
		labels["hardware_class"] = c.Class
	}
	return json.Marshal(struct {
		Counter CounterKind       `json:"counter"`
		Labels  map[string]string `json:"labels"`
		Value   uint64            `json:"value"`
	}{c.Kind, labels, n})
}
