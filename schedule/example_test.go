package schedule_test

import (
	"fmt"
	"time"

	"github.com/quant-exporter/quant-exporter/schedule"
)

// At half past two every night, and on 8 March 2026 there is no such time in New York.
func ExampleSpec_Next() {
	spec, err := schedule.Parse("30 2 * * *", "America/New_York")
	if err != nil {
		fmt.Println(err)
		return
	}
	next := time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC)
	for range 3 {
		next = spec.Next(next)
		fmt.Println(next)
	}
	// Output:
	// 2026-03-07 02:30:00 -0500 EST
	// 2026-03-08 03:00:00 -0400 EDT
	// 2026-03-09 02:30:00 -0400 EDT
}

func ExampleParse() {
	for _, cron := range []string{"*/90 * * * *", "0 0 30 2 *", "@every 100ms"} {
		_, err := schedule.Parse(cron, "")
		fmt.Println(err)
	}
	// Output:
	// "*/90 * * * *": minute "*/90": "90" is not a step within *: use 1 to 59
	// "0 0 30 2 *" is never due: the months (2) have none of the days (30)
	// "@every 100ms" is shorter than a second: write a duration of whole seconds, such as @every 90s, @every 1h30m or @every 1d
}
