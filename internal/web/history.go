package web

import (
	"log/slog"
	"sync"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// histories keeps the small plots of all pairs: reading and drawing them is most of a
// page's work, and they change only with a new result.
type histories struct {
	mu    sync.Mutex
	known map[store.PairID]drawn
}

// drawn is a plot and the results up to which it goes.
type drawn struct {
	decided, failed uint64 // cycles
	spark           *sparkView
}

// fill gives the pairs their plots. One that cannot be read is missing from the page, and
// named in the log.
func (h *histories) fill(from Store, pairs []*pairView, state *store.State, logger *slog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil || len(h.known) > 2*len(state.Pairs) { // half of it is gone
		h.known = map[store.PairID]drawn{}
	}
	for _, v := range pairs {
		pair := state.Pairs[v.id]
		if pair == nil || pair.Decided == nil {
			continue
		}
		now := drawn{decided: pair.Decided.Cycle}
		if pair.Failed != nil {
			now.failed = pair.Failed.Cycle
		}
		before, ok := h.known[v.id]
		if ok && before.decided == now.decided && before.failed == now.failed {
			v.History = before.spark
			continue
		}
		points, err := from.History(v.id, sparkPoints)
		if err != nil {
			logger.Error("The history of a pair is not shown", "model", v.id.Model, "target", v.id.Target, "err", err)
			continue
		}
		now.spark = newSpark(points, primary(points))
		h.known[v.id], v.History = now, now.spark
	}
}
