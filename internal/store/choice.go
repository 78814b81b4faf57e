package store

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
)

// Choose returns the target that a rule chooses among these targets of a model, by their
// standing decisions; "" if none of them is kept. Among equals the previous choice stays.
func (s *State) Choose(rule choice.Rule, model ModelID, targets []string) string {
	var candidates []choice.Candidate
	for _, target := range targets {
		pair := s.Pairs[model.Pair(target)]
		if pair == nil || pair.Standing != verdict.Kept {
			continue
		}
		candidate := pair.Decided.Candidate()
		candidate.Target = target
		if pair.PassedOver != nil && pair.PassedOver.Choose == rule {
			candidate.PassedOverFor = pair.PassedOver.For
		}
		candidates = append(candidates, candidate)
	}
	return rule.Choose(candidates, s.StandingChoice(rule, model))
}

// StandingChoice returns the format that the rule chose for a model at the end of the last
// cycle; "" if none was chosen, or by another rule.
func (s *State) StandingChoice(rule choice.Rule, model ModelID) string {
	if known := s.Models[model]; known != nil && known.Choice != nil && known.Choice.Rule == rule {
		return known.Choice.Format
	}
	return ""
}

// Chosen returns the format that stands as chosen while the cycle runs: the choice of the
// last finished cycle. It is "" if there is none, or if the cycle chooses none.
func (s *State) Chosen(c *Cycle) string {
	if model := s.Models[c.ModelID()]; c.Choose != choice.None && model != nil && model.Choice != nil {
		return model.Choice.Format
	}
	return ""
}

// PassOver records that a running cycle passes targets over, for one that is chosen before
// them whatever they are: they have no result of the cycle, keep what stands, and are
// counted as skipped for the entry, if there is one. For targets that were passed over
// already it returns ErrCommitted.
func (s *Store) PassOver(cycle uint64, by string, targets []string) error {
	return s.update(fmt.Sprintf("storing that %v are passed over for %s", targets, by), func(d *draft) error {
		c, err := d.running(cycle)
		if err != nil || len(targets) == 0 {
			return err
		}
		rest := *c
		rest.Undecided, rest.PassedOver = slices.Clone(c.Undecided), map[string]string{}
		maps.Copy(rest.PassedOver, c.PassedOver)
		for _, target := range targets {
			i := slices.Index(rest.Undecided, target)
			switch {
			case !slices.Contains(c.Targets, target):
				return fmt.Errorf("cycle %d decides %v of %q", c.ID, c.Targets, c.Model)
			case i < 0:
				return fmt.Errorf("cycle %d, %s: %w", c.ID, target, ErrCommitted)
			}
			rest.Undecided = slices.Delete(rest.Undecided, i, i+1)
			rest.PassedOver[target] = by
			if err := d.passOver(c, by, target); err != nil {
				return err
			}
		}
		return d.putCycle(&rest)
	})
}

func (d *draft) passOver(c *Cycle, by, target string) error {
	pair := Pair{PairID: c.PairID(target)}
	if known := d.state.Pairs[pair.PairID]; known != nil {
		pair = *known
	}
	pair.PassedOver = &PassedOver{Cycle: c.ID, Entry: c.Entry, Finished: d.now, For: by, Choose: c.Choose}
	if err := d.putPair(&pair); err != nil || c.Entry == "" {
		return err
	}
	return d.count(Counter{Kind: CountSkipped, Entry: c.Entry, By: string(SkipPassedOver)}, 1)
}

// choose makes the choice of a cycle that ends.
func (d *draft) choose(c *Cycle, model *Model) error {
	previous := d.state.Chosen(c)
	chosen := Choice{Rule: c.Choose, Format: d.state.Choose(c.Choose, c.ModelID(), c.Candidates), Cycle: c.ID}
	if model.Choice != nil {
		chosen.Since = model.Choice.Since
	}
	chosen.Event = event.NewChoice(d.choosing(c, previous, chosen.Format), event.Origin{Host: d.host, Entry: c.Entry, Class: c.Class})
	c.Chosen = chosen.Format
	if err := d.leaveUnpublished(c); err != nil {
		return err
	}
	if chosen.Format != previous {
		chosen.Since = d.now
		chosen.Event.EventID = new(rand.Text())
		text, err := json.Marshal(chosen.Event)
		if err != nil {
			return fmt.Errorf("writing the event: %w", err)
		}
		e, err := d.addEvent(Event{ID: *chosen.Event.EventID, Type: event.TypeChoice, PairID: PairID{Model: c.Model, Class: c.Class}, Data: text})
		if err != nil {
			return err
		}
		c.ChoiceSeq, c.ChoiceID = e.Seq, e.ID
	}
	model.Choice = &chosen
	return nil
}

// leaveUnpublished forgets failures to publish targets that are not chosen: nobody misses
// them.
func (d *draft) leaveUnpublished(c *Cycle) error {
	for _, target := range c.Candidates {
		known := d.state.Pairs[c.PairID(target)]
		if target == c.Chosen || known == nil || known.Unpublished == nil {
			continue
		}
		pair := *known
		pair.Unpublished = nil
		if err := d.putPair(&pair); err != nil {
			return err
		}
	}
	return nil
}

// choosing collects what the event of a choice says. Source format and engine are taken from
// the chosen format's decision, or, if none is chosen, from the candidate that was decided
// last.
func (d *draft) choosing(c *Cycle, previous, format string) event.ChoiceInfo {
	info := event.ChoiceInfo{Model: c.Model, Rule: c.Choose, Previous: previous, At: d.now}
	var of *Record
	for _, target := range c.Candidates {
		pair := d.state.Pairs[c.PairID(target)]
		if pair == nil || pair.Decided == nil {
			continue
		}
		if target == format {
			of = pair.Decided
			info.Chosen = &event.Chosen{Format: format, Bytes: of.Quantized.Bytes, Verdict: of.Verdict, Quality: of.Quality}
			break
		}
		if of == nil || pair.Decided.Finished.After(of.Finished) {
			of = pair.Decided
		}
	}
	if of != nil {
		info.SourceFormat, info.Engine = of.SourceFormat, of.Engine.String()
	}
	return info
}
