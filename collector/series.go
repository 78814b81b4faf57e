package collector

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// series is one time series with its value, made once and read by any number of scrapes
// at once. A metric of client_golang would be made again, value and all, for each scrape.
type series struct {
	family family
	desc   *prometheus.Desc
	labels []*dto.LabelPair // sorted by name
	// One of them, by the family's type.
	counter *dto.Counter
	gauge   *dto.Gauge
}

// Desc is part of prometheus.Metric.
func (s *series) Desc() *prometheus.Desc { return s.desc }

// Write is part of prometheus.Metric. It hands out its own parts: neither the registry
// nor the encoders write to them, and client_golang's own metrics share their labels in
// the same way. (The registry sorts labels in a copy, and finds these sorted.)
func (s *series) Write(out *dto.Metric) error {
	out.Label, out.Counter, out.Gauge = s.labels, s.counter, s.gauge
	return nil
}

// compare orders series by family, and within a family as the registry does.
func (s *series) compare(other *series) int {
	if s.family != other.family {
		return cmp.Compare(s.family, other.family)
	}
	if order := cmp.Compare(len(s.labels), len(other.labels)); order != 0 { // one has a class
		return order
	}
	for i, label := range s.labels {
		if order := strings.Compare(label.GetValue(), other.labels[i].GetValue()); order != 0 {
			return order
		}
	}
	return 0
}

// builder collects series.
type builder struct {
	descs, classDescs []*prometheus.Desc // by family; without and with a class

	list  []*series
	class string // of hardware: a label of what is added, unless it is ""
}

// of has what is added by do be of a class of hardware; "" is this host.
func (b *builder) of(class string, do func()) {
	b.class = class
	do()
	b.class = ""
}

// add adds a series. If two have the same labels, the first one counts: a registry that
// gets both serves nothing at all. For the same reason bytes in a label that are not UTF-8
// are replaced. The labels are in the order of the table.
func (b *builder) add(f family, value float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
	}
	desc := b.descs[f]
	if b.class != "" {
		desc, labels = b.classDescs[f], append(labels, b.class)
	}
	s := &series{family: f, desc: desc, labels: prometheus.MakeLabelPairs(desc, labels)}
	if families[f].Type == counter {
		s.counter = &dto.Counter{Value: &value}
	} else {
		s.gauge = &dto.Gauge{Value: &value}
	}
	b.list = append(b.list, s)
}

// build returns what was added, sorted, so that the registry has nothing left to sort.
func (b *builder) build() []*series {
	slices.SortStableFunc(b.list, (*series).compare)
	return slices.CompactFunc(b.list, func(a, b *series) bool { return a.compare(b) == 0 })
}
