package web

import (
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

// publicationView is what became of publishing a copy.
type publicationView struct {
	Target string
	When   moment
	Stable string // the link that leads to it; "" when it failed
	Error  string // why; "" when it did not
}

// viewPublication is nil for none.
func viewPublication(p *store.Publication, now time.Time) *publicationView {
	if p == nil {
		return nil
	}
	return &publicationView{text.Name(p.Target), momentOf(p.Time, now), text.Name(p.Stable), text.Text(p.Error)}
}
