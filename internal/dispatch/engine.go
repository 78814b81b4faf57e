package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/quant-exporter/quant-exporter/runner"
)

// lookEvery is how often the engine is looked at between cycles: a look costs two calls
// of stat(2) while the tools stay the same.
const lookEvery = 30 * time.Second

// engineWatch knows whether the engine is there.
type engineWatch struct {
	logger *slog.Logger
	look   chan struct{}

	mu     sync.Mutex
	status EngineStatus
}

// run looks at the engine until the context ends.
func (w *engineWatch) run(ctx context.Context, probe func(context.Context) (runner.EngineInfo, error)) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		info, err := probe(ctx)
		if ctx.Err() == nil {
			w.looked(info, err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-w.look:
		}
	}
}

// again asks for a look now.
func (w *engineWatch) again() {
	select {
	case w.look <- struct{}{}:
	default:
	}
}

func (w *engineWatch) looked(info runner.EngineInfo, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.status
	w.status.Checked, w.status.Up, w.status.Info, w.status.Err = time.Now(), err == nil, info, ""
	switch first := before.Checked.IsZero(); {
	case err != nil:
		w.status.Err = err.Error()
		if first || before.Err != w.status.Err {
			w.logger.Error("no cycle can run: the engine cannot be used; the search for it goes on", "err", err)
		}
	case first || !before.Up || before.Info.String() != info.String():
		w.logger.Info("the engine is usable", "engine", info.String(), "threads", info.Threads)
	}
}

// measured takes over what only a measurement shows.
func (w *engineWatch) measured(m runner.Measurement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Backends, w.status.CPU, w.status.GPU = m.Backends, m.CPU, m.GPU
}

func (w *engineWatch) now() EngineStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}
