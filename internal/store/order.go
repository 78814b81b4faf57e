package store

import (
	"slices"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/model"
)

// OldestFirst sorts models by the pair of theirs that was decided longest ago, never first, so
// that a run which is cut off by its timeout goes on where it ended. A failure counts, so that a
// model that always fails does not hold up the others, and so does having been passed over.
func (s *State) OldestFirst(models []model.Planned) {
	oldest := func(m model.Planned) time.Time {
		times := make([]time.Time, 0, len(m.Targets))
		for _, target := range m.Targets {
			times = append(times, s.Pairs[ModelOf(&m).Pair(target)].LastTried())
		}
		return slices.MinFunc(times, time.Time.Compare)
	}
	slices.SortStableFunc(models, func(a, b model.Planned) int { return oldest(a).Compare(oldest(b)) })
}
