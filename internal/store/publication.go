package store

import (
	"fmt"
	"time"
)

// Publication is what became of publishing a copy.
type Publication struct {
	Target string    `json:"target_format"`
	Time   time.Time `json:"time"`
	// Dir of the version, and Stable, the link that leads to it: absolute paths; "" when it
	// failed.
	Dir    string `json:"dir,omitempty"`
	Stable string `json:"stable,omitempty"`
	Error  string `json:"error,omitempty"` // why it failed; "" when it did not
}

// Published stores, once, what became of publishing a running cycle's copies: a second call
// returns ErrCommitted. Only targets that were decided at some time can be published.
func (s *Store) Published(cycle uint64, all []Publication) error {
	return s.update(fmt.Sprintf("storing what cycle %d published", cycle), func(d *draft) error {
		c, err := d.running(cycle)
		if err != nil {
			return err
		}
		if c.Published != nil {
			return fmt.Errorf("cycle %d: %w", cycle, ErrCommitted)
		}
		changed := *c
		for _, p := range all {
			p.Time = p.Time.UTC()
			if err := d.published(c.PairID(p.Target), p); err != nil {
				return err
			}
			changed.Published = append(changed.Published, p)
		}
		return d.putCycle(&changed)
	})
}

func (d *draft) published(id PairID, p Publication) error {
	known := d.state.Pairs[id]
	if known == nil {
		return fmt.Errorf("nothing was ever decided about %s of %q", id.Target, id.Model)
	}
	pair := *known
	if p.Error == "" {
		pair.Published, pair.Unpublished = &p, nil
		return d.putPair(&pair)
	}
	pair.Unpublished = &p
	if err := d.count(Counter{Kind: CountPublishFailure, Model: id.Model, Target: id.Target}, 1); err != nil {
		return err
	}
	return d.putPair(&pair)
}
