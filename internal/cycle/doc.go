// Package cycle is the only code that begins, records, runs, publishes and ends a cycle:
// for the schedule, for a run that somebody asks a serving exporter for, and for the
// command `run`. They differ in where the [Job] comes from, in what becomes of a write
// that fails ([Writes]), and in what a [Watcher] shows.
//
// # Guarantees
//
// A cycle is recorded before it does anything, and so before it waits for the host: what
// waits has an id, a log, and can be canceled. Each result is stored as soon as the runner
// has it, together with the event that it raises; so is what the cycle passes over. A copy
// is published only after the decision on it is stored, while the cycle still has the copy
// and the host. Then the end of the cycle is stored, which makes the choice of a format,
// and last its log.
//
// Every target of a recorded cycle ends in the store: with a decision, with a failure, or
// passed over. A panic fails the targets that have no result yet, and ends this cycle only.
// A cycle that a timeout ends fails for the reason timeout, and one that somebody cancels,
// or that the end of the process stops, for the reason canceled.
//
// A process that is killed leaves the results that were stored, and a cycle without an end;
// whoever opens the store next ends it, and its other targets fail for the reason
// interrupted. Its log is lost. A copy that was published may then be missing from the
// store; the next cycle that keeps the copy publishes it again.
//
// With [Retry], a write that fails is kept in memory and tried again, in order, until it
// succeeds; no further cycle begins before. With [Strict], a cycle that cannot be recorded
// does not run, and any other write that fails is lost: [Cycles.Run] returns its error after
// the cycle has run to its end.
package cycle
