package a2a

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/test/servers"
)

// The entry as redis-cli shows it: the fields of the contract, in their order.
func TestEntry(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	outbox := newMemory()
	outbox.add(1)
	deliver(t, relayTo(t, configOf("redis://"+server.Addr), outbox))

	lines := strings.Split(server.CLI("xrange", stream, "-", "+"), "\n")
	require.Len(t, lines, 7)
	assert.Equal(t, []string{"event_type", "QUANT_DECISION", "event_id", outbox.ids()[0], "data", `{"seq":1}`}, lines[1:])
	assert.Equal(t, "1 "+outbox.ids()[0], server.CLI("hget", marks, outbox.producer))
}

// Each case does something to a server that has ten events, adds an eleventh, or none,
// and says what is in the stream then.
func TestWhatBecomesOfTheServer(t *testing.T) {
	const have = 10
	all := func(ids []string) []string { return ids }
	cases := map[string]struct {
		kept int // delivered events that the store keeps; 0 is all
		do   func(*servers.Redis)
		add  int
		want func(ids []string) []string
	}{
		"nothing": {add: 1, want: all},
		"SCRIPT FLUSH": {
			do:  func(r *servers.Redis) { r.CLI("script", "flush") },
			add: 1, want: all,
		},
		"FLUSHALL": {
			do:  func(r *servers.Redis) { r.CLI("flushall") },
			add: 1, want: all,
		},
		"FLUSHALL, and nothing new": {
			do:   func(r *servers.Redis) { r.CLI("flushall") },
			want: all,
		},
		"FLUSHALL, and the store keeps three": {
			kept: 3,
			do:   func(r *servers.Redis) { r.CLI("flushall") },
			add:  1, want: func(ids []string) []string { return ids[have-3:] },
		},
		"the marks are deleted": { // nobody can tell what the stream has: it gets all that is kept
			kept: 3,
			do:   func(r *servers.Redis) { r.CLI("del", marks) },
			add:  1, want: func(ids []string) []string { return append(ids[:have:have], ids[have-3:]...) },
		},
		"the stream is deleted": {
			do:  func(r *servers.Redis) { r.CLI("del", stream) },
			add: 1, want: func(ids []string) []string { return ids[have:] },
		},
		"the stream is trimmed": {
			do:  func(r *servers.Redis) { r.CLI("xtrim", stream, "maxlen", "2") },
			add: 1, want: func(ids []string) []string { return ids[have-2:] },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			outbox := newMemory()
			relay := relayTo(t, configOf("redis://"+server.Addr), outbox)
			outbox.add(have)
			deliver(t, relay)
			ids := outbox.ids()
			if c.kept > 0 {
				outbox.keep(c.kept)
			}
			if c.do != nil {
				c.do(server)
			}
			if c.add > 0 {
				outbox.add(c.add)
				kept := outbox.ids()
				ids = append(ids, kept[len(kept)-c.add:]...)
			}
			deliver(t, relay)

			assert.Equal(t, c.want(ids), onBus(t, observer(t, server)))
			assert.Equal(t, have+c.add, outbox.delivered)
			assert.Empty(t, outbox.whys, "no reason to take a new producer")
			assert.Empty(t, outbox.failures)
		})
	}
}

// The server comes back from its last snapshot. What it lost is published again, as far
// as the store keeps it, whether or not something new happens.
func TestServerComesBackOlder(t *testing.T) {
	for name, c := range map[string]struct{ kept, add, missing int }{
		"with nothing new":                 {kept: 100},
		"with something new":               {kept: 100, add: 1},
		"with more than a batch new":       {kept: 100, add: 250},
		"the window begins after the mark": {kept: 5, add: 1},
		"older than the window":            {kept: 2, add: 1, missing: 3},
		"older than the window, no news":   {kept: 2, missing: 3},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			outbox := newMemory()
			relay := relayTo(t, configOf("redis://"+server.Addr), outbox)
			outbox.add(4)
			deliver(t, relay)
			server.CLI("save")
			outbox.add(5)
			deliver(t, relay)
			want := outbox.ids()

			server.Kill()
			server.Restart()
			require.Equal(t, "4", server.CLI("xlen", stream), "the snapshot")
			outbox.keep(c.kept)
			outbox.add(c.add)
			kept := outbox.ids()
			want = append(want, kept[len(kept)-c.add:]...)
			want = append(want[:4:4], want[4+c.missing:]...)
			// The connection is found dead first; a relay that runs tries again.
			if relay.attempt(t.Context(), true) != nil {
				deliver(t, relay)
			}

			assert.Equal(t, want, onBus(t, observer(t, server)))
			assert.Empty(t, outbox.whys)
		})
	}
}

// It gets back as well what it had of earlier producers, before anything of later ones.
func TestServerComesBackOlderThanTheProducer(t *testing.T) {
	restored := func(_ *testing.T, outbox *memory) *memory {
		copied := outbox.copied()
		copied.producer, copied.number = rand.Text(), 0
		return copied
	}
	renamed := func(t *testing.T, outbox *memory) *memory {
		require.NoError(t, outbox.NewProducer("of the test"))
		return outbox
	}
	for name, c := range map[string]struct {
		change []func(*testing.T, *memory) *memory // of the producer, one after another
		add    int
	}{
		"another name":                {change: []func(*testing.T, *memory) *memory{renamed}, add: 1},
		"another name, nothing new":   {change: []func(*testing.T, *memory) *memory{renamed}},
		"a restored copy":             {change: []func(*testing.T, *memory) *memory{restored}, add: 1},
		"a restored copy, no news":    {change: []func(*testing.T, *memory) *memory{restored}},
		"several, more than a batch":  {change: []func(*testing.T, *memory) *memory{restored, renamed, restored}, add: 150},
		"several, with nothing since": {change: []func(*testing.T, *memory) *memory{renamed, restored}},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			cfg := configOf("redis://" + server.Addr)
			outbox := newMemory()
			outbox.add(4)
			deliver(t, relayTo(t, cfg, outbox))
			server.CLI("save")
			for _, change := range c.change {
				outbox.add(5)
				deliver(t, relayTo(t, cfg, outbox))
				outbox = change(t, outbox)
			}
			server.Kill()
			server.Restart()
			require.Equal(t, "4", server.CLI("xlen", stream), "the snapshot")
			outbox.add(c.add)
			deliver(t, relayTo(t, cfg, outbox))

			assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
			assert.Zero(t, outbox.State().Outbox.Pending)
		})
	}
}

// interrupted is a server to which something happens before one of the offers.
type interrupted struct {
	server
	before func(offer) bool
	what   func()
}

func (i *interrupted) offer(ctx context.Context, o offer) (answer, error) {
	if i.what != nil && i.before(o) {
		i.what()
		i.what = nil
	}
	return i.server.offer(ctx, o)
}

// Nor does anything of a later producer get there first when the server comes back older
// after the earlier ones were looked at, and the client connects to it anew by itself.
func TestServerComesBackOlderBetweenTwoProducers(t *testing.T) {
	first := func(o offer) bool { return o.Producer == "later" && o.Number == 1 }
	second := func(o offer) bool { return o.Producer == "later" && o.Number == 2 }
	between := func(o offer) bool { return o.Producer == "between" }
	for name, c := range map[string]struct {
		before   func(offer) bool
		sent     int // of the later one before, none of which the snapshot has
		toBeSent int
	}{
		"before the first of the later one":               {before: first, toBeSent: 4},
		"before the second of the later one":              {before: second, toBeSent: 4},
		"before what is new of the later one":             {before: second, sent: 1, toBeSent: 3},
		"before the later one is looked at":               {before: second, sent: 2},
		"before the one in between":                       {before: between, toBeSent: 4},
		"before the one in between, with nothing pending": {before: between, sent: 2},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			cfg := configOf("redis://" + server.Addr)
			outbox := newMemory()
			outbox.add(4)
			deliver(t, relayTo(t, cfg, outbox))
			server.CLI("save")
			outbox.add(5)
			outbox.producer, outbox.number = "between", 0
			outbox.add(2)
			outbox.producer, outbox.number = "later", 0
			outbox.add(c.sent)
			relay := relayTo(t, cfg, outbox)
			deliver(t, relay)
			outbox.add(c.toBeSent)

			restarts := 0
			relay.server = &interrupted{relay.server, c.before, func() {
				restarts++
				server.Kill()
				server.Restart()
				require.Equal(t, "4", server.CLI("xlen", stream), "the snapshot")
			}}
			// The dead connection is seldom the relay's to notice: the client makes another.
			for relay.attempt(t.Context(), true) != nil {
				require.NoError(t, t.Context().Err())
			}
			assert.Equal(t, 1, restarts)
			assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))
			assert.Zero(t, outbox.State().Outbox.Pending)
			assert.Empty(t, outbox.whys)
		})
	}
}

// What comes back as of earlier producers, with the store, which is opened anew as a backup
// in between.
func TestServerComesBackOlderThanTheState(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	cfg := configOf("redis://" + server.Addr)
	open := func(dir string) *store.Store {
		s, err := store.Open(dir, store.Options{Bus: true})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		return s
	}
	decide := func(s *store.Store, n uint64) {
		require.NoError(t, decideAll(s, n))
		deliver(t, relayTo(t, cfg, s))
	}
	first := open(t.TempDir())
	decide(first, 4)
	server.CLI("save")
	decide(first, 7)
	require.NoError(t, first.NewProducer("of the test"))
	decide(first, 9)
	dir := t.TempDir()
	require.NoError(t, first.BackupFile(filepath.Join(dir, "state.db")))

	server.Kill()
	server.Restart()
	require.Equal(t, "4", server.CLI("xlen", stream), "the snapshot")
	second := open(dir)
	decide(second, 10)
	producers, err := second.Producers()
	require.NoError(t, err)
	assert.Len(t, producers, 3)
	events, err := second.Events(store.EventQuery{})
	require.NoError(t, err)
	want := make([]string, len(events))
	for i, event := range events {
		want[i] = event.ID
	}
	assert.Len(t, want, 10)
	assert.Equal(t, want, onBus(t, observer(t, server)))
	assert.NoError(t, second.Check())
}

// An earlier producer's mark is where the server lost something of ours, or where another
// copy of the state went on.
func TestMarkOfAnEarlierProducer(t *testing.T) {
	const (
		delivered = 5
		waiting   = 3 // and then
	)
	for name, c := range map[string]struct {
		mark    func(ids []string) string
		pending bool // of the earlier producer; else all of it was delivered
		again   func(ids []string) []string
		whys    int
	}{
		"it is the last":               {mark: func(ids []string) string { return "5 " + ids[4] }},
		"the server lost two":          {mark: func(ids []string) string { return "3 " + ids[2] }, again: func(ids []string) []string { return ids[3:5] }},
		"another went on":              {mark: func([]string) string { return "9 X" }},
		"another's at our last":        {mark: func([]string) string { return "5 X" }},
		"another's before our last":    {mark: func([]string) string { return "4 X" }},
		"another's further back":       {mark: func([]string) string { return "2 X" }},
		"pending, and it is the last":  {pending: true, mark: func(ids []string) string { return "5 " + ids[4] }, again: func(ids []string) []string { return ids[5:8] }},
		"pending, the server lost two": {pending: true, mark: func(ids []string) string { return "3 " + ids[2] }, again: func(ids []string) []string { return ids[3:8] }},
		"pending, another sent them":   {pending: true, mark: func([]string) string { return "9 X" }},
		// Only its event_id shows that it is on the bus.
		"pending, another's at our last": {pending: true, mark: func([]string) string { return "5 X" }, again: func(ids []string) []string { return ids[5:8] }, whys: 1},
		"pending, another's for the next": {
			pending: true, mark: func([]string) string { return "6 X" }, again: func(ids []string) []string { return ids[5:8] }, whys: 1,
		},
		"pending, another's further back": {pending: true, mark: func([]string) string { return "2 X" }, again: func(ids []string) []string { return ids[5:8] }, whys: 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			outbox := newMemory()
			relay := relayTo(t, configOf("redis://"+server.Addr), outbox)
			outbox.add(delivered)
			deliver(t, relay)
			earlier := outbox.producer
			if c.pending {
				outbox.add(waiting)
			}
			outbox.producer, outbox.number = "present", 0
			outbox.add(2)
			ids := outbox.ids()
			server.CLI("hset", marks, earlier, c.mark(ids))
			deliver(t, relay)
			deliver(t, relay) // and all is well

			want := slices.Clone(ids[:delivered])
			if c.again != nil {
				want = append(want, c.again(ids)...)
			}
			want = append(want, ids[len(ids)-2:]...)
			assert.Equal(t, want, onBus(t, observer(t, server)))
			assert.Zero(t, outbox.State().Outbox.Pending)
			assert.Len(t, outbox.whys, c.whys)
		})
	}
}

// Whoever finds at the mark what it did not send takes a new producer, and publishes
// what it has not delivered, once.
func TestForeignMark(t *testing.T) {
	for name, c := range map[string]struct {
		mark string // "" leaves it
		do   func(*testing.T, config.A2A, *memory)
		add  int
		want int // new producers
	}{
		"the mark is above ours":                 {mark: "11 X", add: 1, want: 1},
		"it is above ours, and nothing is new":   {mark: "11 X", want: 1},
		"it is far above ours":                   {mark: "9007199254740991 X", add: 3, want: 1},
		"another event is at the mark":           {mark: "10 X", add: 1, want: 1},
		"another event, and nothing is new":      {mark: "10 X", want: 1},
		"another event is below our last":        {mark: "7 X", add: 1, want: 1},
		"another event was sent for the next":    {mark: "11 X", add: 4, want: 1},
		"our own, of which we had lost the note": {add: 1, want: 0},
		"a copy has published more": {add: 2, want: 1, do: func(t *testing.T, cfg config.A2A, original *memory) {
			copied := original.copied()
			copied.add(3)
			deliver(t, relayTo(t, cfg, copied))
			require.Empty(t, copied.whys, "it was the first")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			cfg := configOf("redis://" + server.Addr)
			outbox := newMemory()
			relay := relayTo(t, cfg, outbox)
			outbox.add(10)
			deliver(t, relay)
			if c.mark != "" {
				server.CLI("hset", marks, outbox.producer, c.mark)
			}
			if c.do != nil {
				c.do(t, cfg, outbox)
			}
			before := onBus(t, observer(t, server))
			outbox.add(c.add)
			deliver(t, relay)
			deliver(t, relay) // and all is well

			assert.Equal(t, append(before, outbox.ids()[10:]...), onBus(t, observer(t, server)))
			assert.Len(t, outbox.whys, c.want)
			assert.Zero(t, outbox.State().Outbox.Pending)
		})
	}
}

// What was sent, and not noted before the process was killed, is a duplicate: it is
// noted, and not sent again.
func TestKilledBeforeNoting(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	cfg := configOf("redis://" + server.Addr)
	outbox := newMemory()
	outbox.add(7)
	unnoted := outbox.copied()
	deliver(t, relayTo(t, cfg, outbox))
	unnoted.add(2)
	deliver(t, relayTo(t, cfg, unnoted))

	assert.Equal(t, unnoted.ids(), onBus(t, observer(t, server)))
	assert.Equal(t, 9, unnoted.delivered)
	assert.Empty(t, unnoted.whys)
}

// Several exporters on one stream: each is in order, and in full.
func TestProducersShareAStream(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	outboxes := []*memory{newMemory(), newMemory(), newMemory()}
	for _, outbox := range outboxes {
		run(t, relayTo(t, configOf("redis://"+server.Addr), outbox))
	}
	for range 30 {
		for _, outbox := range outboxes {
			outbox.add(3)
		}
	}
	for _, outbox := range outboxes {
		outbox.wait(func() bool { return outbox.delivered == 90 })
	}
	all := onBus(t, observer(t, server))
	assert.Len(t, all, 3*90)
	for _, outbox := range outboxes {
		want := outbox.ids()
		ours := map[string]bool{}
		for _, id := range want {
			ours[id] = true
		}
		var got []string
		for _, id := range all {
			if ours[id] {
				got = append(got, id)
			}
		}
		assert.Equal(t, want, got)
	}
}

// A backup that was restored has a producer of its own, and under the old one what was
// pending when it was made. The original may have published that meanwhile, and more.
func TestPendingOfAnEarlierProducer(t *testing.T) {
	for name, c := range map[string]struct{ delivered, more int }{
		"the original was lost":        {},
		"the original published them":  {delivered: 3},
		"the original went on":         {delivered: 3, more: 4},
		"the original published some":  {delivered: 2},
		"the server knows none of all": {delivered: -1},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			cfg := configOf("redis://" + server.Addr)
			original := newMemory()
			original.add(5)
			deliver(t, relayTo(t, cfg, original))
			original.add(3)
			restored := original.copied()
			restored.producer, restored.number = "restored", 0
			restored.add(2)

			var others []string
			switch {
			case c.delivered < 0:
				server.CLI("flushall")
			case c.delivered > 0:
				original.events = original.events[:5+c.delivered]
				original.add(c.more)
				others = original.ids()[5+c.delivered:]
				deliver(t, relayTo(t, cfg, original))
			}
			deliver(t, relayTo(t, cfg, restored))

			ids := restored.ids()
			want := slices.Concat(ids[:8], others, ids[8:])
			assert.Equal(t, want, onBus(t, observer(t, server)))
			assert.Zero(t, restored.State().Outbox.Pending)
			assert.Empty(t, restored.whys)
		})
	}
}

func TestMaxLen(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	outbox := newMemory()
	outbox.add(1000)
	cfg := configOf("redis://" + server.Addr)
	cfg.MaxLen = 150 // Redis drops whole nodes of 100 entries
	deliver(t, relayTo(t, cfg, outbox))
	left, err := strconv.Atoi(server.CLI("xlen", stream))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, left, 150)
	assert.Less(t, left, 300)
	ids := onBus(t, observer(t, server))
	assert.Equal(t, outbox.ids()[1000-len(ids):], ids)

	cfg.MaxLen = 0
	outbox.add(400)
	deliver(t, relayTo(t, cfg, outbox))
	assert.Len(t, onBus(t, observer(t, server)), left+400)
}

func TestFlush(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	cfg := configOf("redis://" + server.Addr)
	outbox := newMemory()
	outbox.add(3)
	require.NoError(t, relayTo(t, cfg, outbox).Flush(t.Context()))
	assert.Equal(t, outbox.ids(), onBus(t, observer(t, server)))

	t.Run("leaves in the store what cannot be delivered", func(t *testing.T) {
		server.Kill()
		outbox.add(2)
		err := relayTo(t, cfg, outbox).Flush(t.Context())
		assert.ErrorContains(t, err, "2 events wait in the store for the event stream: ")
		assert.Equal(t, []string{ReasonConnection}, outbox.failures)
		server.Restart()
	})
	t.Run("ends with its context, while the server answers nothing", func(t *testing.T) {
		server.Freeze()
		defer server.Thaw()
		ctx, cancel := context.WithCancel(t.Context())
		relay := relayTo(t, cfg, outbox)
		go cancel()
		assert.ErrorIs(t, relay.Flush(ctx), context.Canceled)
	})
}

// never is a longer timeout than the test's: whatever ends earlier ends without it.
const never = 24 * 60 * patience

// The exporter stops at once while it waits for an answer, in a connection that worked
// before, or in one that is being made.
func TestStopWhileNobodyAnswers(t *testing.T) {
	t.Run("to an event", func(t *testing.T) {
		proxy := servers.StartProxy(t, servers.StartRedis(t, servers.RedisOptions{}).Addr)
		cfg := configOf("redis://" + proxy.Addr)
		cfg.Timeout = never
		outbox := newMemory()
		stop := run(t, relayTo(t, cfg, outbox))
		outbox.add(1)
		outbox.wait(func() bool { return outbox.delivered == 1 })
		proxy.Swallow()
		outbox.add(1)
		<-proxy.Asked
		stop()
		assert.Equal(t, store.Pending, outbox.events[1].Delivery)
	})
	for name, network := range map[string]string{"TCP": "tcp", "TLS": "tcp", "Unix": "unix"} {
		t.Run("to a connection by "+name, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				dir, err := os.MkdirTemp("", "") // a path short enough for a socket
				require.NoError(t, err)
				defer os.RemoveAll(dir)
				address = filepath.Join(dir, "s")
			}
			listener, err := net.Listen(network, address)
			require.NoError(t, err)
			defer listener.Close()
			asked := make(chan struct{})
			go func() {
				conn, err := listener.Accept()
				if !assert.NoError(t, err) {
					return
				}
				_, err = conn.Read(make([]byte, 1))
				assert.NoError(t, err)
				close(asked)
				<-t.Context().Done()
				conn.Close()
			}()
			scheme := map[string]string{"TCP": "redis://", "TLS": "rediss://", "Unix": "unix://"}[name]
			cfg := configOf(scheme + listener.Addr().String())
			cfg.Timeout = never
			outbox := newMemory()
			outbox.add(1)
			stop := run(t, relayTo(t, cfg, outbox))
			<-asked
			stop()
			assert.Empty(t, outbox.failures)
		})
	}
}
