package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/report"
)

func TestPublications(t *testing.T) {
	var text strings.Builder
	require.NoError(t, report.Publications(&text, nil))
	assert.Empty(t, text.String())
	all := []event.Publication{
		event.NewPublication("m", "Q2_K", time.Unix(1, 0), "/p/m/Q2_K/0123456789ab", "/p/m/Q2_K/stable", ""),
		event.NewPublication("m", "Q8_0", time.Unix(1, 0), "", "", "no space\nleft\x1b"),
	}
	require.NoError(t, report.Publications(&text, all))
	assert.Equal(t, "Q2_K is published: /p/m/Q2_K/stable\nQ8_0 is not published: no space\n  left\\x1b\n\n", text.String())

	for i, want := range []string{
		`{"event_type":"QUANT_PUBLICATION","model_name":"m","target_format":"Q2_K","timestamp":1,"dir":"/p/m/Q2_K/0123456789ab","stable":"/p/m/Q2_K/stable","error":null}`,
		`{"event_type":"QUANT_PUBLICATION","model_name":"m","target_format":"Q8_0","timestamp":1,"dir":null,"stable":null,"error":"no space\nleft\u001b"}`,
	} {
		text.Reset()
		require.NoError(t, report.Line(&text, all[i]))
		assert.JSONEq(t, want, text.String())
	}
}
