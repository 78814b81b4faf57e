package schedule

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWords(t *testing.T) {
	for cron, want := range map[string]string{
		"0 3 * * *": "daily at 03:00", "30 5 * * 0": "Sundays at 05:30", "30 5 * * 7": "Sundays at 05:30", "0 23 * * sat": "Saturdays at 23:00",
		"5 * * * *": "hourly at minute 5",
		"* * * * *": "", "0 3 1 * *": "", "0 3 * 2 *": "", "0 3 * * 1-5": "", "*/5 * * * *": "", "0 24 * * *": "", "5 * * * 1": "", "@daily": "", "": "",
	} {
		assert.Equal(t, want, Words(cron), cron)
	}
}
