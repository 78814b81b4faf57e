package a2a

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/quant-exporter/quant-exporter/internal/redisconn"
)

// Why an attempt to deliver failed: label values of
// quant_cycle_event_publish_failures_total.
const (
	ReasonConnection  = "connection"    // the server cannot be reached, or hung up
	ReasonTimeout     = "timeout"       // it did not answer in time
	ReasonTLS         = "tls"           // one side does not trust the other, or speaks no TLS
	ReasonAuth        = "auth"          // it wants another user or password
	ReasonPermission  = "permission"    // the user lacks a command or a key
	ReasonReadOnly    = "read_only"     // it is a replica, perhaps one that has lost its primary
	ReasonOutOfMemory = "out_of_memory" // it is at maxmemory and may evict nothing
	ReasonPersistence = "persistence"   // it cannot save its data, and so takes no writes
	ReasonReplicas    = "replicas"      // too few replicas follow it, and so it takes no writes
	ReasonWrongType   = "wrong_type"    // something else is under our keys
	ReasonLoading     = "loading"       // it has just started and reads its data
	ReasonStore       = "store"         // the events could not be read from, or noted in, our own state
	ReasonOther       = "other"         // the message says more
)

// Reasons returns all reasons.
func Reasons() []string {
	return []string{
		ReasonConnection, ReasonTimeout, ReasonTLS, ReasonAuth, ReasonPermission, ReasonReadOnly,
		ReasonOutOfMemory, ReasonPersistence, ReasonReplicas, ReasonWrongType, ReasonLoading, ReasonStore, ReasonOther,
	}
}

// advice is what to do about a reason.
var advice = map[string]string{
	ReasonConnection:  "see that Redis runs and that a2a.url names it, with rediss exactly where it speaks TLS; one that asks for certificates hangs up, too",
	ReasonTimeout:     "see whether Redis is overloaded or a firewall drops packets, and that a2a.url says rediss only where it speaks TLS",
	ReasonTLS:         "see that a2a.url says rediss where the server speaks TLS, and that a2a.tls_config fits its certificate",
	ReasonAuth:        "correct a2a.username and a2a.password_file, or A2A_USERNAME and A2A_PASSWORD; where the Sentinels refuse, a2a.sentinel_username and a2a.sentinel_password_file, or A2A_SENTINEL_USERNAME and A2A_SENTINEL_PASSWORD",
	ReasonPermission:  "allow the Redis user +eval +evalsha +xadd +hget +hset on the stream and the marks beside it, +select for a database other than 0, +cluster|slots in a cluster",
	ReasonReadOnly:    "a2a.url names a replica: name the primary, or use redis+sentinel or redis+cluster to follow it",
	ReasonOutOfMemory: "raise maxmemory of Redis, free memory, or lower a2a.max_len",
	ReasonPersistence: "see why Redis cannot write its snapshot or its log, such as a full disk or a folder that it may not write to: its own log says more",
	ReasonReplicas:    "bring back the replicas of Redis, or lower its min-replicas-to-write",
	ReasonWrongType:   "another program uses the key: choose another a2a.stream, or remove the key",
	ReasonLoading:     "nothing to do: it goes on when Redis has read its data",
	ReasonStore:       "see that the disk of --storage.path is neither full nor broken",
	ReasonOther:       "see the error",
}

// storeError is an error of our own state, not of the bus.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

// reasonOf puts an error under one of the reasons.
func reasonOf(err error) string {
	if _, ok := errors.AsType[*storeError](err); ok {
		return ReasonStore
	}
	if _, ok := errors.AsType[*redisconn.CredentialsError](err); ok {
		return ReasonAuth
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		return reasonOfReply(reply.Error())
	}
	if errors.Is(err, errAnswer) || errors.Is(err, redisconn.ErrReply) {
		return ReasonOther
	}
	if isTLS(err) {
		return ReasonTLS
	}
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return ReasonTimeout
	}
	return ReasonConnection // whatever is not the server's own words
}

// replies are the words by which Redis refuses. A script's errors carry them in front
// (Redis 7) or further on (Redis 6).
var replies = []struct{ word, reason string }{
	{"LOADING ", ReasonLoading},
	{"NOAUTH ", ReasonAuth},
	{"WRONGPASS ", ReasonAuth},
	{"invalid password", ReasonAuth},
	{"AUTH <password> called without any password configured", ReasonAuth},
	{"NOPERM ", ReasonPermission},
	{"ACL failure in script", ReasonPermission},
	{"The user executing the script can't", ReasonPermission},
	{"READONLY ", ReasonReadOnly},
	{"MASTERDOWN ", ReasonReadOnly},
	{"OOM ", ReasonOutOfMemory},
	{"MISCONF ", ReasonPersistence},
	{"NOREPLICAS ", ReasonReplicas},
	{"WRONGTYPE ", ReasonWrongType},
	{"BADMARK ", ReasonWrongType},
}

func reasonOfReply(reply string) string {
	for _, r := range replies {
		if strings.Contains(reply, r.word) {
			return r.reason
		}
	}
	return ReasonOther
}

// isTLS reports whether the handshake failed, on our side or on the server's.
func isTLS(err error) bool {
	_, ours := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, theirs := errors.AsType[tls.AlertError](err)
	return ours || noTLS || theirs
}
