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

// fill gives the pairs their plots; known is how many pairs there are. A history that cannot
// be read is missing from the page, and named in the log. Requests do not wait for each
// other: two at once may both read what is new.
func (h *histories) fill(from Store, pairs []*pairView, known int, logger *slog.Logger) {
	for _, v := range pairs {
		pair := v.Pair
		if pair.Decided == nil {
			continue
		}
		now := drawn{decided: pair.Decided.Cycle}
		if pair.Failed != nil {
			now.failed = pair.Failed.Cycle
		}
		if before, ok := h.get(v.id); ok && before.decided == now.decided && before.failed == now.failed {
			v.History = before.spark
			continue
		}
		points, err := from.History(v.id, sparkPoints)
		if err != nil {
			logger.Error("the history of a pair cannot be shown", "model", v.id.Model, "target", v.id.Target, "err", err)
			continue
		}
		now.spark = newSpark(points, primary(points))
		v.History = now.spark
		h.put(v.id, now, known)
	}
}

func (h *histories) get(id store.PairID) (drawn, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d, ok := h.known[id]
	return d, ok
}

// put keeps a plot, of so many pairs that there are.
func (h *histories) put(id store.PairID, d drawn, pairs int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil || len(h.known) > 2*pairs { // half of it is gone
		h.known = map[store.PairID]drawn{}
	}
	h.known[id] = d
}
