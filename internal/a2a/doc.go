// Package a2a delivers the events of the store to the A2A bus, a Redis stream.
//
// # What it guarantees
//
// An event that the store has committed gets into the stream once, and the events of a
// store get there in their order, producer by producer and number by number, whatever is
// killed, frozen or cut off meanwhile: this process, Redis, the network between them, the
// answer to a command that was carried out. Until Redis has taken it, an event waits in the
// store.
//
// The means is one script, deliver.lua, which Redis runs as a whole or not at all. It
// keeps, beside the stream, the number of the last event of every producer that went in
// (the mark) and takes only the next one, and the first one of a producer only where the
// last one of the producer before it is. So an event that is sent twice is in the stream
// once, and a server that came back with an older state, after a crash or a failover, is
// noticed by its mark: the [Relay] sends again what the server has lost, as far back as
// the store keeps delivered events, with the events of earlier producers first. It looks
// at the marks whenever it sends, whenever it gets through again, and every 30 to 60 s.
//
// # What it does not guarantee
//
// What an operator or max_len removes from the stream stays removed, as the marks stay;
// a server without the marks (FLUSHALL, another server) gets all that the store keeps.
// Redis answers before its data is on disk, and the loss is made good afterwards only: a
// consumer may have read an event before the server lost it, and reads it again, under
// another entry ID, if it is sent again. So consumers recognise duplicates by event_id.
//
// Two stores never share a producer for long. A copy of a state (a backup that was
// restored) finds at the mark an event that is not its own, takes a new producer, and
// gives new numbers to what it has not delivered: events of these that the bus had already
// arrive twice, under one event_id. A mark of an earlier producer above everything that the
// store has of it says that another copy went on under that name, and has delivered what was
// pending.
//
// What a store has delivered, and the server then lost, is not sent again once another
// copy has put an event of its own under the same number.
//
// # What a Redis user has to be allowed
//
// The script and the commands in it, on the stream and the hash of the marks:
//
//	ACL SETUSER NAME on >PASSWORD resetkeys ~{a2a}:* -@all +eval +evalsha +xadd +hget +hset
//
// and +select for a database other than 0, +cluster|slots in a Redis Cluster.
package a2a
