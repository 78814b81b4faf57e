package store

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// PairID names a pair: a model and a target.
type PairID struct {
	Model  string `json:"model_name"`
	Target string `json:"target_format"`
	Class  string `json:"hardware_class,omitempty"` // in a fleet; "" for the exporter's own host
}

// ModelID names a model as a class of hardware has measured it.
type ModelID struct {
	Name  string `json:"model_name"`
	Class string `json:"hardware_class,omitempty"` // as in PairID
}

// Pair returns the pair of the model and a target.
func (id ModelID) Pair(target string) PairID { return PairID{id.Name, target, id.Class} }

// ModelOf returns the model of an entry.
func ModelOf(m *model.Planned) ModelID { return ModelID{m.Name, m.Class} }

// ModelID returns the model of the pair.
func (id PairID) ModelID() ModelID { return ModelID{id.Model, id.Class} }

// State is what is known after one committed transaction. Neither it nor anything it points
// to changes any more.
type State struct {
	Pairs  map[PairID]*Pair
	Models map[ModelID]*Model
	// Counters only ever grow, and survive restarts.
	Counters Counters
	Outbox   OutboxState
	// Cycles that were begun and have not ended, oldest first.
	Running []*Cycle
}

// Pair is what is known of a pair.
type Pair struct {
	PairID
	// Standing is the last kept or rejected; "" before the first.
	Standing verdict.Outcome `json:"standing_decision"`
	// StandingSince is when Standing last changed.
	StandingSince time.Time `json:"standing_since"`
	// Decided is the latest decision with its figures, inconclusive included, and without
	// its evidence; nil before the first.
	Decided *Record `json:"decided"`
	// Failed is the latest failure, when it is newer than Decided; else nil.
	Failed *Failed `json:"failed"`
	// Published is the latest publication of a copy; nil before the first.
	Published *Publication `json:"published,omitempty"`
	// Unpublished is the latest one that failed, when it is newer than Published and the copy
	// is missed still: the pair stands as kept and, where one format is chosen, as chosen. Else
	// nil.
	Unpublished *Publication `json:"unpublished,omitempty"`
	// PassedOver is set while the pair was passed over in the latest cycle that it was in.
	PassedOver *PassedOver `json:"passed_over,omitempty"`
}

// LastTried is when a cycle last decided the pair, failed to, or passed it over; zero before,
// and for a nil pair.
func (p *Pair) LastTried() time.Time {
	switch {
	case p == nil:
		return time.Time{}
	case p.PassedOver != nil:
		return p.PassedOver.Finished
	case p.Failed != nil:
		return p.Failed.Finished
	case p.Decided != nil:
		return p.Decided.Finished
	}
	return time.Time{}
}

// ComparedFormats returns the formats of the files that entries compared with a model, when they
// last did, by the entries' names.
func (s *State) ComparedFormats() map[string]string {
	last, formats := map[string]*Record{}, map[string]string{}
	for id, pair := range s.Pairs {
		d := pair.Decided
		if d == nil || d.Against == "" {
			continue
		}
		if before := last[d.Entry]; before == nil || d.Finished.After(before.Finished) {
			last[d.Entry], formats[d.Entry] = d, cmp.Or(d.Quantized.Format, id.Target) // which may be the file's name
		}
	}
	return formats
}

// Failed is a pair that could not be decided.
type Failed struct {
	Cycle    uint64        `json:"cycle"`
	Entry    string        `json:"entry"`
	Finished time.Time     `json:"finished"`
	Reason   runner.Reason `json:"reason"`
	Error    string        `json:"error"`
	// Inputs are the result's; nil where the cycle did not come so far. DependsOn is the cycle's
	// then, Engine what it had found, and Imatrix whether the model had an importance matrix.
	Inputs    *runner.Inputs  `json:"inputs,omitempty"`
	DependsOn string          `json:"depends_on,omitempty"`
	Engine    runner.EngineID `json:"engine,omitzero"`
	Imatrix   bool            `json:"imatrix,omitempty"`
	// Since is when the first of these failures in a row ended, and Times how many there are:
	// for the same reason, with the same inputs.
	Since time.Time `json:"since,omitzero"`
	Times int       `json:"times,omitempty"`
}

// RetryFailed is how long a pair that fails in the same way each time is left alone as long as
// its inputs are the same.
const RetryFailed = 7 * 24 * time.Hour

// attempts are how often a pair has to fail for a reason, in a row and with the same inputs,
// before another attempt is taken to end alike. Reasons that are not here pass by themselves,
// or when somebody sees to the host; a timeout may be the cycle's, which ends pairs that no
// tool has touched.
var attempts = map[runner.Reason]int{
	runner.ReasonBadModel: 1, runner.ReasonQuantize: 1,
	runner.ReasonCrash: 2, runner.ReasonBenchmark: 2, runner.ReasonEvaluate: 2, runner.ReasonOutOfMemory: 2,
}

// Again returns when a pair is due to be tried again although its inputs are the same; zero
// where it is tried whenever its entry is due.
func (f *Failed) Again() time.Time {
	needed, lasts := attempts[f.Reason]
	known := f.Inputs != nil || f.DependsOn != "" || f.Reason == runner.ReasonBadModel // else nobody can say that nothing has changed
	if !lasts || f.Times < needed || !known {
		return time.Time{}
	}
	return f.Finished.Add(RetryFailed)
}

// newFailed makes the latest failure of a pair; before is the one before it, nil if it did not
// fail then.
func newFailed(c *Cycle, r *Record, before *Failed) *Failed {
	f := &Failed{
		Cycle: c.ID, Entry: c.Entry, Finished: r.Finished, Reason: r.Failure.Reason, Error: r.Failure.Error(),
		Inputs: r.Inputs, Since: r.Finished, Times: 1,
	}
	if r.Inputs == nil {
		e := r.Engine
		f.DependsOn, f.Imatrix = c.DependsOn, e.Imatrix
		f.Engine = runner.EngineID{Name: e.Name, Version: e.Version, Build: e.Build, Commit: e.Commit}
	}
	if before != nil && before.Times > 0 && before.Reason == f.Reason && before.sameInputs(f) {
		f.Since, f.Times = before.Since, before.Times+1
	}
	return f
}

// sameInputs reports whether two failures depend on the same. Of a cycle that did not come so
// far the message says as much.
func (f *Failed) sameInputs(later *Failed) bool {
	if f.Inputs == nil || later.Inputs == nil {
		return f.Inputs == later.Inputs && f.Error == later.Error && f.DependsOn == later.DependsOn && f.Engine == later.Engine
	}
	return later.Inputs.SameAttempt(*f.Inputs)
}

// PassedOver is a pair that a cycle passed over: whatever it is, another one is chosen
// before it.
type PassedOver struct {
	Cycle    uint64      `json:"cycle"`
	Entry    string      `json:"entry"`
	Finished time.Time   `json:"finished"`
	For      string      `json:"for"` // target
	Choose   choice.Rule `json:"choose"`
}

// Model is what is known of a model, as of its last cycle.
type Model struct {
	ModelID
	// LastRun is when its last cycle ended, however it did; zero before.
	LastRun time.Time `json:"last_run"`
	// LastSuccess is when its last cycle ended in which no pair failed; zero before.
	LastSuccess time.Time `json:"last_success"`
	// Durations of the last cycle's operations; quantize is the sum over its targets.
	Durations map[runner.Operation]time.Duration `json:"durations_ns"`
	// Latest names the pair that was decided last.
	Latest PairID `json:"latest"`
	// Choice is the choice of the last cycle that chose one of its formats; nil before.
	Choice *Choice `json:"choice,omitempty"`
	// Hosts are what the hosts of its class have found of it within a month, in a fleet, by their
	// names.
	Hosts map[string]*Found `json:"hosts,omitempty"`
}

// Choice is the format that was chosen among the formats of a model.
type Choice struct {
	Rule   choice.Rule `json:"choose"`
	Format string      `json:"chosen_format"` // "": none is kept
	Since  time.Time   `json:"since"`         // when Format last changed; zero if it never did
	Cycle  uint64      `json:"cycle"`         // at whose end it was made
	// Event announces it. It went to the outbox, with an id, if Format changed with that
	// cycle.
	Event event.Choice `json:"event"`
}

// SkipReason says why something that was due did not run.
type SkipReason string

// The reasons.
const (
	SkipOverlap    SkipReason = "overlap"     // an earlier run of the entry was not over
	SkipDeadline   SkipReason = "deadline"    // it would have begun too late
	SkipUnchanged  SkipReason = "unchanged"   // nothing has changed since the last decision, or failure
	SkipConflict   SkipReason = "conflict"    // another entry decides this pair
	SkipPassedOver SkipReason = "passed_over" // another target is chosen before this one, whatever it is
)

// Cycle is one run over one model.
type Cycle struct {
	ID      uint64     `json:"cycle"` // from 1, in the order in which cycles began
	Entry   string     `json:"entry"` // "" from the command line
	Model   string     `json:"model_name"`
	Class   string     `json:"hardware_class,omitempty"` // in a fleet; "" for the exporter's own host
	Targets []string   `json:"target_formats"`
	Due     time.Time  `json:"due"` // zero from the command line
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended"` // nil while it runs
	// Undecided are the targets without a result yet; none are left when it has ended.
	Undecided []string `json:"undecided,omitempty"`
	// Published is what became of the copies that were to be published; nil when none was.
	Published []Publication `json:"published,omitempty"`
	// PassedOver are the targets that it passed over, and for which one; they have no
	// result.
	PassedOver map[string]string `json:"passed_over,omitempty"`

	// Choose is how a format is chosen at its end, of Candidates: by default its targets,
	// and more where it decides only some of those that there are. "" chooses none.
	Choose     choice.Rule `json:"choose,omitempty"`
	Candidates []string    `json:"candidates,omitempty"`
	// Chosen is that format; "" when none is kept.
	Chosen string `json:"chosen_format,omitempty"`
	// ChoiceSeq and ChoiceID name the event that says that the choice changed.
	ChoiceSeq uint64 `json:"choice_event_seq,omitempty"`
	ChoiceID  string `json:"choice_event_id,omitempty"`
	// Changes are the changed inputs of its decisions, each once.
	Changes []runner.Change `json:"changed_inputs,omitempty"`
	// DependsOn stands for the files and settings that it had; "" where nobody knows them. See
	// Failed.
	DependsOn string `json:"depends_on,omitempty"`

	// Ticket tells it from every other cycle, Attempt counts the times that it was given to the
	// workers of its class, from 1, and Until is when it is withdrawn if none has begun it:
	// only in a fleet. Begun says that one has begun an earlier attempt.
	Ticket  string    `json:"ticket,omitempty"`
	ByHand  bool      `json:"by_hand,omitempty"` // somebody asked for it
	Attempt int       `json:"attempt,omitempty"`
	Begun   bool      `json:"begun,omitempty"`
	Until   time.Time `json:"until,omitzero"`
}

// ModelID returns the model of the cycle.
func (c *Cycle) ModelID() ModelID { return ModelID{c.Model, c.Class} }

// PairID returns the pair of the cycle's model and a target.
func (c *Cycle) PairID(target string) PairID { return c.ModelID().Pair(target) }

// Delivery says where an event is on its way to the bus.
type Delivery string

// The states of delivery.
const (
	Held       Delivery = "held"       // there was no bus to send it to
	Pending    Delivery = "pending"    // the bus does not have it yet
	Delivered  Delivery = "delivered"  // the bus has it
	Superseded Delivery = "superseded" // held, and not the last of its pair when a bus was first configured: never sent
)

// Deliveries returns all states of delivery.
func Deliveries() []Delivery { return []Delivery{Held, Pending, Delivered, Superseded} }

// Event is an event of the outbox.
type Event struct {
	// Seq numbers the events of this store from 1, in the order of their commits.
	Seq uint64 `json:"seq"`
	// Producer and Number identify the event on the bus: each producer numbers its events
	// from 1 without a gap. Zero while the event is held, or is superseded.
	Producer string `json:"producer,omitempty"`
	Number   uint64 `json:"number,omitempty"`
	ID       string `json:"event_id"`
	Type     string `json:"event_type"`
	// PairID is the pair that it is about; without a target it is about the model.
	PairID
	// Data is the JSON of the event, as it goes out.
	Data      json.RawMessage `json:"data"`
	Created   time.Time       `json:"created"`
	Delivery  Delivery        `json:"delivery"`
	Delivered *time.Time      `json:"delivered"` // nil before
}

// OutboxState sums up the outbox.
type OutboxState struct {
	Producer string // the one of the events to come
	Pending  int    // held ones not counted
	Held     int
	// OldestPending is when the oldest pending event was made; zero when there is
	// none.
	OldestPending time.Time
}

// Delivered returns how many events the bus has taken.
func (s *State) Delivered() uint64 { return s.Counters.Of(Counter{Kind: CountDelivered}) }

// Standing returns the standing decision of a pair; "" when none stands.
func (s *State) Standing(id PairID) verdict.Outcome {
	if pair := s.Pairs[id]; pair != nil {
		return pair.Standing
	}
	return ""
}
