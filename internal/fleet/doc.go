// Package fleet gives cycles to workers on other hosts, through asynq's queues in Redis, and
// brings back what becomes of them. A [Coordinator] gives recorded cycles and follows them; a
// [Worker] takes cycles of its class of hardware, one at a time.
//
// # What it guarantees
//
// A cycle is done once. It is given as a task of asynq whose name is made of entry, due time,
// class, model and attempt, so that giving it again, after a coordinator was killed or by a
// second one, changes nothing. The newest attempt is kept beside the results in Redis, and
// with the cycle in the coordinator's store. A worker begins an attempt, and adds each of its
// results in order, by scripts that take nothing of an earlier attempt, of a second worker, or
// twice: see the files *.lua. A worker learns by the same scripts that its attempt is not
// the newest any more, and gives up.
//
// A cycle ends. A worker that begins a cycle beats while it works. When nothing is heard of it
// for a minute in which Redis answered, the next attempt is given to the others of the class.
// So it is when asynq has lost a task: it was left active without a lease, is archived, or is
// not there any more. A worker that is asked to end gives its cycle back. While Redis is
// away, workers go on and keep what they find; what was found counts if no newer attempt has
// begun meanwhile.
//
// # What it does not guarantee
//
// Redis that loses what it has taken, beyond the last second of its log, may lose an attempt
// with its results: the cycle is then measured again, and counts once all the same. Whoever
// can write to Redis can start cycles and make up results; see docs/fleet.md for what he
// cannot.
//
// # What a Redis user has to be allowed
//
// The keys asynq:* and PREFIX:*, and the commands that asynq and the scripts use: see
// docs/fleet.md.
package fleet
