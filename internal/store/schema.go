package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// The buckets. Numbers in keys are eight bytes, big-endian, so that keys sort by them;
// values are JSON objects where nothing else is said.
const (
	bucketMeta     = "meta"            // metaSchema: schemaVersion in decimal; metaState: meta
	bucketEntries  = "entries"         // entry → schedule.State
	bucketCycles   = "cycles"          // cycle → Cycle
	bucketRunning  = "cycles.running"  // cycle → cycle, of those that have not ended
	bucketLogs     = "cycles.logs"     // cycle → what was logged, gzip
	bucketResults  = "results"         // cycle, target → Record, without its Evidence
	bucketEvidence = "evidence"        // cycle, target → runner.Evidence
	bucketDecided  = "history.decided" // model NUL target [SOH class] NUL cycle → Point
	bucketFailed   = "history.failed"  // the same, of failures
	bucketPairs    = "pairs"           // model NUL target [SOH class] NUL → Pair
	bucketModels   = "models"          // model [SOH class] → Model
	bucketCounters = "counters"        // the fields of Counter, NUL between them → number
	bucketPruned   = "pruned"          // the same, of what Retention has removed: see Check
	bucketEvents   = "events"          // seq → Event
	bucketNumbers  = "events.numbers"  // producer NUL number → seq, of the numbered ones
	bucketPending  = "events.pending"  // seq → seq, of those in Pending
	bucketHeld     = "events.held"     // seq → seq, of those in Held
	bucketHashes   = "hashes"          // device, inode or path → fileHash
	bucketSettled  = "events.settled"  // seq → Unix seconds since when, of those in Delivered or Superseded
)

func buckets() []string {
	return []string{
		bucketMeta, bucketEntries, bucketCycles, bucketRunning, bucketLogs, bucketResults, bucketEvidence, bucketDecided, bucketFailed, bucketPairs,
		bucketModels, bucketCounters, bucketPruned, bucketEvents, bucketNumbers, bucketPending, bucketHeld, bucketSettled, bucketHashes,
	}
}

// schemaVersion is the version of this layout. It changes with every change that an earlier
// version cannot read.
const schemaVersion = 1

// The keys of bucketMeta.
const (
	metaSchema = "quant-exporter.schema"
	metaState  = "state"
	// metaUnreleased is where builds from before the first release have the version of
	// their layout, which counts apart from ours.
	metaUnreleased = "schema"
)

// errUnreleased is the error of a file that such a build made.
var errUnreleased = errors.New("a file of an unreleased build")

// meta is what the state has one of.
type meta struct {
	// Identity is the file's identity when it was last opened; zero before.
	Identity identity `json:"identity,omitzero"`
	// Backup is when this copy was made; nil in a state that is in use.
	Backup *time.Time `json:"backup,omitempty"`
	// Producer is the name under which events are numbered, Newest the last number
	// given.
	Producer      string    `json:"producer"`
	ProducerSince time.Time `json:"producer_since"`
	ProducerWhy   string    `json:"producer_why"`
	Newest        uint64    `json:"newest_number"`
	// Bus says that a bus has been configured at some time.
	Bus bool `json:"bus"`
}

// versionOf reads the version of the file's layout.
func versionOf(tx *bbolt.Tx) (int, error) {
	b := tx.Bucket([]byte(bucketMeta))
	if b == nil {
		return 0, errors.New("a bbolt file of another program")
	}
	text := b.Get([]byte(metaSchema))
	if text == nil && b.Get([]byte(metaUnreleased)) != nil {
		return 0, errUnreleased
	}
	version, err := strconv.Atoi(string(text))
	if err != nil || version < 1 {
		return 0, errors.New("a bbolt file without the version of its schema")
	}
	return version, nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// numberAt reads the number at the end of a key or value.
func numberAt(b []byte) (uint64, error) {
	if len(b) < 8 {
		return 0, fmt.Errorf("%q is too short for a number", b)
	}
	return binary.BigEndian.Uint64(b[len(b)-8:]), nil
}

func resultKey(cycle uint64, target string) []byte { return append(number(cycle), target...) }

func pairKey(id PairID) []byte {
	return []byte(id.Model + "\x00" + id.Target + classKey(id.Class) + "\x00")
}

func modelKey(id ModelID) []byte { return []byte(id.Name + classKey(id.Class)) }

// classMark stands before a class in a key; see checkFleet.
const classMark = "\x01"

func classKey(class string) string {
	if class == "" {
		return ""
	}
	return classMark + class
}

func historyKey(id PairID, cycle uint64) []byte { return append(pairKey(id), number(cycle)...) }

func producerPrefix(producer string) []byte { return []byte(producer + "\x00") }

func numberKey(producer string, n uint64) []byte {
	return append(producerPrefix(producer), number(n)...)
}

// newestFirst calls f with what is under a prefix followed by a number, in descending
// order, until f says stop.
func newestFirst(b *bbolt.Bucket, prefix []byte, f func(k, v []byte) (more bool, err error)) error {
	c := b.Cursor()
	before := c.Prev
	if k, _ := c.Seek(append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, 9)...)); k == nil { // beyond every number
		before = c.Last
	}
	for k, v := before(); bytes.HasPrefix(k, prefix); k, v = c.Prev() {
		if more, err := f(k, v); err != nil || !more {
			return err
		}
	}
	return nil
}

// checkName refuses what cannot be part of a key.
func checkName(what, name string) error {
	if name == "" || len(name) > 4096 || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%q cannot be the name of %s: a name has 1 to 4096 bytes, none of them NUL", name, what)
	}
	return nil
}
