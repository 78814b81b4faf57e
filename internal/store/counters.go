package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// The kinds of counters: the first word of a counter's key.
const (
	countDecision       = "decision"        // outcome, model, source format, target
	countFailure        = "failure"         // model, reason
	countRejection      = "rejection"       // model, target, gate
	countSkipped        = "skipped"         // entry, reason
	countInputChange    = "input_change"    // model, input
	countPublished      = "published"       //
	countPublishFailure = "publish_failure" // reason
	countUnpublished    = "unpublished"     // model, target

	// Only of what was pruned.
	countChange = "change" // model, target
	countEvent  = "event"  // delivery
)

func counterKey(kind string, labels ...string) string {
	return strings.Join(append([]string{kind}, labels...), "\x00")
}

func newCounters() Counters {
	return Counters{
		Decisions:       map[DecisionKey]uint64{},
		Failures:        map[FailureKey]uint64{},
		Rejections:      map[RejectionKey]uint64{},
		Skipped:         map[SkippedKey]uint64{},
		InputChanges:    map[InputChangeKey]uint64{},
		PublishFailures: map[string]uint64{},
		Unpublished:     map[PairID]uint64{},
	}
}

func (c Counters) clone() Counters {
	c.Decisions = maps.Clone(c.Decisions)
	c.Failures = maps.Clone(c.Failures)
	c.Rejections = maps.Clone(c.Rejections)
	c.Skipped = maps.Clone(c.Skipped)
	c.InputChanges = maps.Clone(c.InputChanges)
	c.PublishFailures = maps.Clone(c.PublishFailures)
	c.Unpublished = maps.Clone(c.Unpublished)
	return c
}

// set gives the counter of a key its value.
func (c *Counters) set(key string, n uint64) error {
	kind, rest, _ := strings.Cut(key, "\x00")
	labels := strings.Split(rest, "\x00")
	switch {
	case kind == countDecision && len(labels) == 4:
		c.Decisions[DecisionKey{verdict.Outcome(labels[0]), labels[1], labels[2], labels[3]}] = n
	case kind == countFailure && len(labels) == 2:
		c.Failures[FailureKey{labels[0], runner.Reason(labels[1])}] = n
	case kind == countRejection && len(labels) == 3:
		c.Rejections[RejectionKey{labels[0], labels[1], verdict.Phase(labels[2])}] = n
	case kind == countSkipped && len(labels) == 2:
		c.Skipped[SkippedKey{labels[0], SkipReason(labels[1])}] = n
	case kind == countInputChange && len(labels) == 2:
		c.InputChanges[InputChangeKey{labels[0], runner.Input(labels[1])}] = n
	case key == countPublished:
		c.Published = n
	case kind == countPublishFailure && len(labels) == 1:
		c.PublishFailures[labels[0]] = n
	case kind == countUnpublished && len(labels) == 2:
		c.Unpublished[PairID{labels[0], labels[1]}] = n
	default:
		return fmt.Errorf("there is no counter %q", key)
	}
	return nil
}

// exportedCounter is a counter as a JSON object.
func exportedCounter(key string, n uint64) ([]byte, error) {
	kind, rest, _ := strings.Cut(key, "\x00")
	names := map[string][]string{
		countDecision:       {"result", "model_name", "source_format", "target_format"},
		countFailure:        {"model_name", "reason"},
		countRejection:      {"model_name", "target_format", "gate"},
		countSkipped:        {"entry", "reason"},
		countInputChange:    {"model_name", "input"},
		countPublishFailure: {"reason"},
		countUnpublished:    {"model_name", "target_format"},
	}[kind]
	labels := map[string]string{}
	for i, label := range strings.Split(rest, "\x00") {
		if i < len(names) {
			labels[names[i]] = label
		}
	}
	return json.Marshal(struct {
		Counter string            `json:"counter"`
		Labels  map[string]string `json:"labels"`
		Value   uint64            `json:"value"`
	}{kind, labels, n})
}
