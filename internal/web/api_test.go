package web_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/store"
)

// manyEvents are n events, of which every tenth is pending and the others delivered.
func manyEvents(n int) []store.Event {
	all := make([]store.Event, n)
	for i := range all {
		all[i] = store.Event{Seq: uint64(i + 1), ID: strconv.Itoa(i + 1), Type: "QUANT_DECISION", Data: json.RawMessage(`{"a":1}`), Delivery: store.Delivered}
		if (i+1)%10 == 0 {
			all[i].Delivery = store.Pending
		}
	}
	return all
}

// eventsAnswer is what a client reads.
type eventsAnswer struct {
	Status    string
	ErrorType string
	Error     string
	Data      struct {
		Events    []store.Event
		NextAfter uint64 `json:"next_after"`
	}
}

func askEvents(t *testing.T, handler http.Handler, query string) (int, eventsAnswer) {
	t.Helper()
	response := ask(handler, "GET", "/api/v1/events?"+query)
	assert.Equal(t, "application/json; charset=utf-8", response.Header().Get("Content-Type"))
	var got eventsAnswer
	require.NoError(t, json.Unmarshal(response.Body.Bytes(), &got), response.Body)
	return response.Code, got
}

func TestEvents(t *testing.T) {
	for _, test := range []struct {
		query       string
		events      int
		first, last uint64 // of the answer; 0 when it is empty
		next        uint64
		count       int
	}{
		{"", 0, 0, 0, 0, 0},
		{"", 100, 1, 100, 0, 100},
		{"", 101, 1, 100, 100, 100},
		{"limit=1", 3, 1, 1, 1, 1},
		{"limit=1&after=2", 3, 3, 3, 0, 1},
		{"after=3", 3, 0, 0, 0, 0},
		{"after=18446744073709551615", 3, 0, 0, 0, 0},
		{"limit=1000", 1000, 1, 1000, 0, 1000},
		{"limit=1000", 1001, 1, 1000, 1000, 1000},
		{"delivery=pending", 3000, 10, 1000, 1000, 100},
		{"delivery=pending&after=1000&limit=1000", 3000, 1010, 3000, 0, 200},
		{"delivery=held", 3000, 0, 0, 0, 0},
	} {
		t.Run(test.query+" of "+strconv.Itoa(test.events), func(t *testing.T) {
			o := options(t)
			o.Store = &fakeStore{events: manyEvents(test.events)}
			status, got := askEvents(t, handlerOf(o), test.query)
			require.Equal(t, http.StatusOK, status)
			assert.Equal(t, "success", got.Status)
			assert.NotNil(t, got.Data.Events, "an empty list, and not null")
			require.Len(t, got.Data.Events, test.count)
			assert.Equal(t, test.next, got.Data.NextAfter)
			if test.count > 0 {
				assert.Equal(t, test.first, got.Data.Events[0].Seq)
				assert.Equal(t, test.last, got.Data.Events[test.count-1].Seq)
			}
		})
	}
}

// Following next_after shows every event once.
func TestEventsPageByPage(t *testing.T) {
	o := options(t)
	o.Store = &fakeStore{events: manyEvents(2500)}
	handler := handlerOf(o)
	for _, delivery := range []string{"", "pending"} {
		var seen []uint64
		for after := uint64(0); ; {
			_, got := askEvents(t, handler, "limit=7&delivery="+delivery+"&after="+strconv.FormatUint(after, 10))
			for _, event := range got.Data.Events {
				seen = append(seen, event.Seq)
			}
			if after = got.Data.NextAfter; after == 0 {
				break
			}
		}
		want := 2500
		if delivery != "" {
			want = 250
		}
		assert.Len(t, seen, want)
		assert.IsIncreasing(t, seen)
	}
}

func TestEventsAsThePageOfTheStoreIsRead(t *testing.T) {
	o := options(t)
	from := &fakeStore{events: manyEvents(100)}
	o.Store = from
	askEvents(t, handlerOf(o), "limit=5")
	assert.Equal(t, 1, from.reads, "nothing is read that was not asked for")
}

func TestEventsRefusals(t *testing.T) {
	o := options(t)
	broken := &fakeStore{}
	o.Store = broken
	handler := handlerOf(o)
	for query, want := range map[string]string{
		"after=-1":         "after",
		"after=1.5":        "after",
		"limit=0":          "limit",
		"limit=1001":       "limit",
		"limit=many":       "limit",
		"delivery=PENDING": "pending",
	} {
		status, got := askEvents(t, handler, query)
		assert.Equal(t, http.StatusBadRequest, status, query)
		assert.Equal(t, "bad_data", got.ErrorType)
		assert.Contains(t, got.Error, want)
	}
	assert.Zero(t, broken.reads)

	broken.err = errors.New("the file is closed")
	status, got := askEvents(t, handler, "")
	assert.Equal(t, http.StatusInternalServerError, status)
	assert.Equal(t, "internal", got.ErrorType)
	assert.Contains(t, got.Error, "the file is closed")
}

func FuzzEventsQuery(f *testing.F) {
	for _, seed := range []string{"", "0", "7", "-1", "1e3", "99999999999999999999", "pending", "<script>", "\x00", "1;2"} {
		f.Add(seed, seed, seed)
	}
	f.Fuzz(func(t *testing.T, after, limit, delivery string) {
		o := options(t)
		o.Store = &fakeStore{events: manyEvents(30)}
		query := url.Values{"after": {after}, "limit": {limit}, "delivery": {delivery}}
		status, got := askEvents(t, handlerOf(o), query.Encode())
		switch status {
		case http.StatusOK:
			assert.Equal(t, "success", got.Status)
			assert.Empty(t, got.Error)
		case http.StatusBadRequest:
			assert.Equal(t, "error", got.Status)
			assert.NotEmpty(t, got.Error)
		default:
			assert.Failf(t, "neither an answer nor a refusal", "%d", status)
		}
	})
}
