package store

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quant-exporter/quant-exporter/internal/quality"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// Record is a result as it is stored.
type Record struct {
	Cycle uint64 `json:"cycle"`
	Entry string `json:"entry"` // "" from the command line
	Host  string `json:"host"`
	Class string `json:"hardware_class,omitempty"` // in a fleet; "" for the exporter's own host
	// Result has as Previous the standing decision that it met here, and Changes from the
	// inputs of the pair's decision before. Its Evidence, which is most of it, is stored
	// apart, and only Store.Cycle reads it.
	runner.Result
	Engine runner.EngineInfo `json:"engine"` // the engine of the evidence
	// OriginalThroughput is, per phase, the median of the original's throughput over all
	// rounds of the cycle that counted, in tokens per second; nil for a failure.
	OriginalThroughput map[verdict.Phase]float64 `json:"original_throughput"`
	// Changed is set if the result changed the standing decision; EventSeq and EventID
	// then name the event of the change.
	Changed  bool   `json:"changed"`
	EventSeq uint64 `json:"event_seq,omitempty"`
	EventID  string `json:"event_id,omitempty"`
}

// PairID of the result.
func (r *Record) PairID() PairID { return PairID{r.Model, r.TargetFormat, r.Class} }

// Point is what a plot shows of one result.
type Point struct {
	Time  time.Time `json:"time"` // when the result came in
	Cycle uint64    `json:"cycle"`
	// Outcome is "" for a failure, Reason "" for a decision.
	Outcome verdict.Outcome `json:"outcome,omitempty"`
	Reason  runner.Reason   `json:"reason,omitempty"`
	Gate    verdict.Phase   `json:"gate,omitempty"`
	Changed bool            `json:"changed,omitempty"` // the standing decision, by this result

	SourceFormat string       `json:"source_format"`
	Threshold    float64      `json:"threshold"`        // ratio
	Bytes        int64        `json:"bytes"`            // of the quantized file; 0 when there was none
	Phases       []PointPhase `json:"phases,omitempty"` // in the order of the configuration; none without a round

	// Quality is nil where it was not evaluated.
	Quality *PointQuality   `json:"quality,omitempty"`
	Changes []runner.Change `json:"changed_inputs,omitempty"`
}

// PointQuality is how far the copy's predictions are from the original's, in nats.
type PointQuality struct {
	KLDivergence quality.Interval `json:"kl_divergence"`
	Limit        float64          `json:"max_kl_divergence,omitempty"` // 0: none
}

// PointPhase is one phase of a Point: tokens per second, and ratios.
type PointPhase struct {
	Phase     verdict.Phase `json:"phase"`
	Original  float64       `json:"original"`
	Quantized float64       `json:"quantized"`
	Drop      float64       `json:"drop"`
	Lower     *float64      `json:"lower"` // nil: open
	Upper     *float64      `json:"upper"`
}

// newRecord makes the record of a result, which met the pair as it was before.
func newRecord(cycle *Cycle, host string, r *runner.Result, before *Pair) Record {
	record := Record{Cycle: cycle.ID, Entry: cycle.Entry, Host: cmp.Or(r.Host, host), Class: cycle.Class, Result: *r, Engine: r.Evidence.Engine}
	record.Started, record.Finished = r.Started.UTC(), r.Finished.UTC()
	record.Previous, record.Changes = before.Standing, nil
	record.Changed = standingOutcome(r.Outcome()) && r.Outcome() != before.Standing
	if decided := before.Decided; decided != nil && decided.Inputs != nil && r.Inputs != nil {
		record.Changes = r.Inputs.Changes(*decided.Inputs)
	}
	if r.Verdict != nil {
		record.OriginalThroughput = originals(r)
	}
	return record
}

// withoutEvidence returns the part that is read often.
func (r *Record) withoutEvidence() *Record {
	small := *r
	small.Evidence = runner.Evidence{}
	return &small
}

// standingOutcome reports whether an outcome can stand.
func standingOutcome(o verdict.Outcome) bool { return o == verdict.Kept || o == verdict.Rejected }

func (r *Record) point() Point {
	p := Point{
		Time: r.Finished, Cycle: r.Cycle, Changed: r.Changed,
		SourceFormat: r.SourceFormat, Threshold: r.Threshold, Bytes: r.Quantized.Bytes,
		Changes: r.Changes,
	}
	if r.Quality != nil {
		p.Quality = &PointQuality{r.Quality.KLDivergence, r.Quality.Limits.MaxKLDivergence}
	}
	if r.Failure != nil {
		p.Reason = r.Failure.Reason
		return p
	}
	p.Outcome = r.Verdict.Outcome
	if p.Outcome == verdict.Rejected {
		p.Gate = r.Verdict.Gate
	}
	if r.Verdict.Rounds == 0 { // the budget was spent before: there are no figures, and 0 is none
		return p
	}
	for _, phase := range r.Verdict.Phases {
		p.Phases = append(p.Phases, PointPhase{phase.Phase, phase.Original, phase.Quantized, phase.Drop, phase.Lower, phase.Upper})
	}
	return p
}

// history returns the bucket that the point belongs to.
func (p *Point) history() string {
	if p.Reason != "" {
		return bucketFailed
	}
	return bucketDecided
}

// counters returns those that count the result.
func (p *Point) counters(id PairID) []Counter {
	if p.Reason != "" {
		return []Counter{{Kind: CountFailure, Model: id.Model, Class: id.Class, By: string(p.Reason)}}
	}
	counters := []Counter{{Kind: CountDecision, Model: id.Model, Source: p.SourceFormat, Target: id.Target, Class: id.Class, By: string(p.Outcome)}}
	if p.Outcome == verdict.Rejected {
		counters = append(counters, Counter{Kind: CountRejection, Model: id.Model, Target: id.Target, Class: id.Class, By: string(p.Gate)})
	}
	return counters
}

// originals are, per phase, the medians of the original's throughput over all rounds of
// the cycle that counted: the rounds of its latest target hold all of them. A phase
// without such rounds has the figure of the verdict.
func originals(r *runner.Result) map[verdict.Phase]float64 {
	medians := map[verdict.Phase]float64{}
	for _, phase := range r.Verdict.Phases {
		samples := samples(r, phase.Phase)
		if len(samples) == 0 {
			samples = []float64{phase.Original}
		}
		slices.Sort(samples)
		middle := len(samples) / 2
		medians[phase.Phase] = samples[middle]
		if len(samples)%2 == 0 {
			medians[phase.Phase] = (samples[middle-1] + samples[middle]) / 2
		}
	}
	return medians
}

// samples are the original's throughputs in the rounds that counted.
func samples(r *runner.Result, phase verdict.Phase) []float64 {
	var all []float64
	for _, round := range r.Evidence.Rounds {
		if throughput, ok := round.Original.Measurement.Throughput[phase]; ok && round.Counted {
			all = append(all, throughput)
		}
	}
	return all
}

// Cycle reads a cycle and its results with their evidence, sorted by target; false if there is
// no such cycle, or no longer.
func (s *Store) Cycle(id uint64) (Cycle, []Record, bool, error) {
	var cycle Cycle
	var records []Record
	known := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		stored, ok, err := find[Cycle](tx, bucketCycles, number(id))
		if err != nil || !ok {
			return err
		}
		cycle, known = *stored, true
		if records, err = resultsOf[Record](tx, id); err != nil {
			return err
		}
		for i := range records {
			if err := readEvidence(tx, &records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Cycle{}, nil, false, fmt.Errorf("reading cycle %d: %w", id, err)
	}
	return cycle, records, known, nil
}

// readEvidence adds the evidence to a record.
func readEvidence(tx *bbolt.Tx, r *Record) error {
	evidence, err := get[runner.Evidence](tx, bucketEvidence, resultKey(r.Cycle, r.TargetFormat))
	if err == nil {
		r.Evidence = *evidence
	}
	return err
}

// resultsOf reads Records without their evidence, or a part of them.
func resultsOf[T any](tx *bbolt.Tx, cycle uint64) ([]T, error) {
	var records []T
	prefix := number(cycle)
	c := tx.Bucket([]byte(bucketResults)).Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		record, err := decode[T](bucketResults, k, v)
		if err != nil {
			return nil, err
		}
		records = append(records, *record)
	}
	return records, nil
}

// Cycles reads up to limit cycles, the newest first: those before a cycle, or from the
// newest on if before is 0. A limit of 0 or less means no limit.
func (s *Store) Cycles(before uint64, limit int) ([]Cycle, error) {
	var cycles []Cycle
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketCycles)).Cursor()
		k, v := c.Last()
		if before > 0 {
			if k, _ = c.Seek(number(before)); k != nil {
				k, v = c.Prev()
			} else {
				k, v = c.Last()
			}
		}
		for ; k != nil && (limit <= 0 || len(cycles) < limit); k, v = c.Prev() {
			cycle, err := decode[Cycle](bucketCycles, k, v)
			if err != nil {
				return err
			}
			cycles = append(cycles, *cycle)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the cycles: %w", err)
	}
	return cycles, nil
}

// History reads the latest results of a pair, at most limit of them, the oldest first. A
// limit of 0 or less means no limit.
func (s *Store) History(id PairID, limit int) ([]Point, error) {
	var points []Point
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		points, err = historyOf(tx, id, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of %s of %q: %w", id.Target, id.Model, err)
	}
	return points, nil
}

func historyOf(tx *bbolt.Tx, id PairID, limit int) ([]Point, error) {
	var points []Point
	for _, bucket := range []string{bucketDecided, bucketFailed} {
		taken := 0
		err := newestFirst(tx.Bucket([]byte(bucket)), pairKey(id), func(k, v []byte) (bool, error) {
			point, err := decode[Point](bucket, k, v)
			if err != nil {
				return false, err
			}
			points = append(points, *point)
			taken++
			return limit <= 0 || taken < limit, nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(points, func(a, b Point) int { return bytes.Compare(number(a.Cycle), number(b.Cycle)) })
	if limit > 0 && len(points) > limit {
		points = points[len(points)-limit:]
	}
	return points, nil
}
