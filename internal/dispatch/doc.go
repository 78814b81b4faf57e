// Package dispatch runs what is due: it queues the fires of the schedule, takes one after
// the other, turns it into cycles, and has each result stored.
//
// It guarantees that
//   - one cycle runs at a time, those that wait do so in the order in which they were
//     due, and no more than one run of an entry waits;
//   - a cycle is recorded before it begins, and each of its results as soon as it is
//     there; what cannot be stored, because the disk is full, is tried again until it is,
//     and the next cycle waits for that;
//   - whatever goes wrong in a cycle, a panic included, ends that cycle only.
package dispatch
