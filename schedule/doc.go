// Package schedule says when an entry of the schedule is due. It knows nothing of what
// an entry does then: it calls a function.
//
// # Specs
//
// A spec is five fields, minute, hour, day of month, month and day of week, each of
// them *, or a list of values and ranges with or without a step, such as 0,30 or 9-17/2
// or */15; or it is @yearly (@annually), @monthly, @weekly, @daily (@midnight), @hourly,
// or @every with a duration of whole seconds, such as @every 6h or @every 1d. Months and
// days of the week may be named (JAN, MON), Sunday is 0 and 7, and a range of days may
// go past the end of the week (FRI-MON). Upper and lower case are the same.
//
// Where both day of month and day of week are restricted, which a step does as well, a
// day has to match one of them, not both: 0 0 13 * FRI is every 13th and every Friday.
//
// Everything else is refused with an error that says what to write. So are specs that would
// never fire, or would do something else than they seem to say.
//
// # Daylight saving time
//
// A time that the clock skips in spring is due once, right after it. A time that the
// clock repeats in autumn is due the first time only. A spec with a wildcard in its hour
// field (* or */2) is due whenever the clock shows a time of it, so 0 * * * * and
// */15 * * * * keep their pace through both changes.
//
// # Time
//
// The scheduler goes by the wall clock, and looks at it at least every 30 seconds: this
// is how long it takes to notice that the clock was set, or that the host was suspended.
//
//   - What an entry missed meanwhile, or while nobody ran the scheduler, it makes up for
//     with one fire, for the latest time missed, if that is not longer ago than its
//     starting deadline. If it is, it is dropped, and counted once.
//   - When the clock is set back, nothing is due a second time, unless it was set back
//     so far that the last fire is 3 hours or more ahead: then the entry goes on from
//     now.
//   - @every counts from the last fire, whole seconds, across restarts and reloads. If
//     that is in the future, however little, it counts from now.
//   - An entry that is new, or whose spec or timezone was changed, or that was suspended,
//     counts from now. A fire at start (run_on_start) takes the place of a missed one.
//   - Jitter delays a fire by a part of it that depends on the names of entry and host
//     alone. A fire at start is not delayed.
//
// A fire is recorded before it is made, so one that a crash interrupts is not repeated.
// If it cannot be recorded, it is made all the same: a full disk does not stop the
// schedule, but after a restart a fire may come again.
package schedule
