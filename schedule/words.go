package schedule

import (
	"fmt"
	"strings"
	"time"
)

// Words says when an entry with this cron is due, where that is simple: "daily at 03:00",
// "Sundays at 05:30" or "hourly at minute 5"; "" where it is not, or the cron is not valid.
func Words(cron string) string {
	texts := strings.Fields(cron)
	if len(texts) != len(fields) {
		return ""
	}
	var at [len(fields)]int
	for i, text := range texts {
		if at[i] = -1; text == "*" {
			continue
		}
		var err error
		if at[i], err = fields[i].value(text); err != nil {
			return ""
		}
	}
	minute, hour, day, month, weekday := at[0], at[1], at[2], at[3], at[4]
	switch clock := fmt.Sprintf("%02d:%02d", hour, minute); {
	case minute < 0 || day >= 0 || month >= 0 || hour < 0 && weekday >= 0:
		return ""
	case hour < 0:
		return fmt.Sprintf("hourly at minute %d", minute)
	case weekday < 0:
		return "daily at " + clock
	default:
		return time.Weekday(weekday%7).String() + "s at " + clock
	}
}
