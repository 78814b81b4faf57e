package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/runner"
)

func TestTheModelDecidedLongestAgoGoesFirst(t *testing.T) {
	decided := func(hours int) *store.Pair {
		return &store.Pair{Decided: &store.Record{Result: runner.Result{Finished: time.Unix(0, 0).Add(time.Duration(hours) * time.Hour)}}}
	}
	state := &store.State{Pairs: map[store.PairID]*store.Pair{
		{Model: "young", Target: "Q2_K"}: decided(9),
		{Model: "young", Target: "Q8_0"}: decided(8),
		{Model: "mixed", Target: "Q2_K"}: decided(10),
		{Model: "mixed", Target: "Q8_0"}: decided(2),
		{Model: "old", Target: "Q2_K"}:   decided(3),
		{Model: "old", Target: "Q8_0"}:   decided(3),
		// Never decided, as another target is chosen before it.
		{Model: "chosen", Target: "Q2_K"}: decided(7),
		{Model: "chosen", Target: "Q8_0"}: {PassedOver: &store.PassedOver{Finished: time.Unix(0, 0).Add(7 * time.Hour)}},
	}}
	var models []model.Planned
	for _, name := range []string{"young", "chosen", "old", "mixed", "never"} {
		models = append(models, model.Planned{Model: model.Model{Name: name}, Targets: []string{"Q2_K", "Q8_0"}})
	}
	state.OldestFirst(models)
	var names []string
	for _, m := range models {
		names = append(names, m.Name)
	}
	assert.Equal(t, []string{"never", "mixed", "old", "chosen", "young"}, names)
}
