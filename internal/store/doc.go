// Package store keeps what must survive: every result with the evidence it rests on,
// the standing decisions, the counters, and the events that the bus is to have. It is
// one bbolt file, state.db, in a directory of its own.
//
// # Guarantees
//
// A result is stored in one transaction, on disk before [Store.Commit] returns: the
// result itself, its history, its counters, the pair's decision and, if the standing
// decision changed, the event. Whatever is killed at whatever moment, all of it is there
// after the next [Open] or none of it is, and what Commit has returned for is there.
//
// [Store.State] is what the file holds, never more: it changes after a commit has
// succeeded. After a failed commit, on a full disk say, state and file are as before, and
// the next one may succeed. (If the disk has taken the data and then fails to say so, the
// transaction may be in the file although an error was returned; State follows the file, and
// a second Commit of the same result returns [ErrCommitted].)
//
// One process has the state at a time. A second one gets a [LockedError], which names the
// first.
//
// A file that is damaged, is something else, comes from a newer version or from before the
// first release is left as it is, and the error says which and what to do.
//
// # Changes and events
//
// A kept or rejected that differs from the pair's standing decision, or is its first, is
// a change; inconclusive and failures are not. Each change makes one event.
//
// Events are numbered in the order of their commits, and beside that, once a bus is
// configured, from 1 under the name of a producer, without a gap. The name is random and
// changes with [Store.NewProducer] and whenever Open finds that it has a copy of the
// state before it: one made by [Store.Backup], or a file that is not, by inode and time of
// birth, the one that it was. The numbers after the copy was made may be in use on the
// bus by the state that went on without it. Events that were pending keep their old
// names, under which the bus knows whether it has them.
//
// So Open knows a state.db that was copied, with its directory or without, moved from
// another file system, or restored from such a copy by a new file in its place, wherever
// it is mounted. It does not know one whose content was written over (cp copy state.db,
// of a copy that Backup has not made), a disk that was cloned or set back as a whole, nor,
// if the file system reports no time of birth, a copy that got the same inode. Those are
// left to the relay, which calls NewProducer when the bus shows it. A file system that
// numbers its inodes anew with each mount makes Open take a new producer each time, which
// costs nothing but the name.
//
// While no bus was ever configured events are held, without a number. With the first one
// the latest held event of each pair becomes pending, and the older ones are superseded.
// From then on events are pending at once, also when there is no bus for a while.
//
// # What goes
//
// [config.Retention] bounds the results of each pair, and delivered events go after a window of
// seven days or beyond ten thousand. Each commit prunes a bounded number of things, of
// its own pair and of another in turn: none takes long for it, and a bound that was
// lowered takes effect over the next commits. Standing decisions, latest figures and
// counters stay forever, and of the hashes of files the last 4096; the file never shrinks,
// but the room in it is used again.
package store
