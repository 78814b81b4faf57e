// Command a2a follows the decisions of quant-exporter on the A2A bus (a Redis stream that agents
// read), as one of a group of consumers: it prints each decision, and each choice of a format,
// once. It is an example to start from; see its README.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	host, _ := os.Hostname()
	url := flag.String("url", "redis://127.0.0.1:6379/0", "`URL` of Redis")
	c := consumer{out: os.Stdout, block: 2 * time.Second, remember: 30 * 24 * time.Hour}
	flag.StringVar(&c.stream, "stream", "{a2a}:events", "`key` of the stream")
	flag.StringVar(&c.group, "group", "example", "`name` of the group: each entry goes to one of its consumers")
	flag.StringVar(&c.name, "consumer", host, "`name` of this consumer, unique in the group")
	flag.DurationVar(&c.idle, "idle", time.Minute, "how long an entry stays with a consumer that does not acknowledge it")
	flag.Parse()

	options, err := redis.ParseURL(*url)
	if err != nil {
		log.Fatalf("-url: %v", err)
	}
	c.redis = redis.NewClient(options)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = c.run(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		log.Fatal(err)
	}
}

// decision has the fields of an event that are printed; see
// examples/quant-decision.schema.json for all of them.
type decision struct {
	Model     string      `json:"model_name"`
	Target    string      `json:"target_format"`
	Decision  string      `json:"decision"`
	Previous  *string     `json:"previous_decision"` // null the first time
	Gate      *string     `json:"gate"`              // that rejected it: a phase, quality or memory; else null
	Phase     string      `json:"phase"`             // in which the speed was measured
	Drop      float64     `json:"throughput_drop_percent"`
	Interval  [2]*float64 `json:"drop_interval_percent"` // low, high; null where it is open
	Threshold float64     `json:"threshold_percent"`
	Quality   *figures    `json:"quality"` // null where it was not evaluated
	Timestamp float64     `json:"timestamp"`
}

// figures of quality, which limits are for; intervals are low, high.
type figures struct {
	KLDivergence       [2]float64         `json:"kl_divergence_interval"`
	Top1Agreement      [2]float64         `json:"top1_agreement_interval_percent"`
	PerplexityIncrease [2]float64         `json:"perplexity_increase_interval_percent"`
	RMSDeltaP          [2]float64         `json:"rms_delta_p_interval_percent"`
	P999               float64            `json:"kl_divergence_p999"` // null, 0 here, where it is not known
	Exceeded           []string           `json:"exceeded_limits"`
	Limits             map[string]float64 `json:"limits"` // as configured; absent in old events
}

// choice has the fields of an event that are printed; see
// examples/quant-choice.schema.json for all of them.
type choice struct {
	Model     string  `json:"model_name"`
	Chosen    *string `json:"chosen_format"`   // null when none is kept any more
	Previous  *string `json:"previous_format"` // null the first time
	Choose    string  `json:"choose"`
	Timestamp float64 `json:"timestamp"`
}

// consumer is one of a group.
type consumer struct {
	redis               *redis.Client
	stream, group, name string
	idle                time.Duration // after it an entry of another consumer is taken over
	block               time.Duration // how long to wait for entries at a time
	remember            time.Duration // how long an event_id is known as handled
	out                 io.Writer
}

// run handles entries until the context ends.
func (c *consumer) run(ctx context.Context) error {
	// From the beginning of the stream; "$" instead of "0" is from now on.
	err := c.redis.XGroupCreateMkStream(ctx, c.stream, c.group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") { // there is one already
		return fmt.Errorf("creating the group %s: %w", c.group, err)
	}
	for ctx.Err() == nil {
		if err := c.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step handles what a consumer that crashed, this one before it included, left behind, or
// else what is new.
func (c *consumer) step(ctx context.Context) error {
	entries, _, err := c.redis.XAutoClaim(ctx, &redis.XAutoClaimArgs{
		Stream: c.stream, Group: c.group, Consumer: c.name, MinIdle: c.idle, Start: "0-0", Count: 10,
	}).Result()
	if err != nil {
		return fmt.Errorf("taking over entries: %w", err)
	}
	if len(entries) == 0 {
		streams, err := c.redis.XReadGroup(ctx, &redis.XReadGroupArgs{
			Streams: []string{c.stream, ">"}, Group: c.group, Consumer: c.name, Count: 10, Block: c.block,
		}).Result()
		switch {
		case err == redis.Nil: //nolint:errorlint // nothing new, and never wrapped
			return nil
		case err != nil:
			return fmt.Errorf("reading entries: %w", err)
		}
		entries = streams[0].Messages
	}
	for _, entry := range entries {
		if err := c.take(ctx, entry); err != nil {
			return fmt.Errorf("entry %s: %w", entry.ID, err)
		}
	}
	return nil
}

// take handles an entry, unless its event was handled before, and acknowledges it. Killed
// between handling and acknowledging, the group handles it again: let that do no harm the
// second time.
func (c *consumer) take(ctx context.Context, entry redis.XMessage) error {
	handle := map[any]func(data []byte) error{"QUANT_DECISION": c.decided, "QUANT_CHOICE": c.chosen}[entry.Values["event_type"]]
	if handle == nil { // for others
		return c.redis.XAck(ctx, c.stream, c.group, entry.ID).Err()
	}
	seen := c.stream + ":" + c.group + ":seen" // event IDs, by when they were handled
	id, _ := entry.Values["event_id"].(string) // "" is not the exporter's, and tells no duplicates
	if id != "" {
		_, err := c.redis.ZScore(ctx, seen, id).Result()
		switch {
		case err == nil:
			fmt.Fprintf(c.out, "%s handled before\n", id)
			return c.redis.XAck(ctx, c.stream, c.group, entry.ID).Err()
		case err != redis.Nil: //nolint:errorlint // not seen yet, and never wrapped
			return err
		}
	}
	data, _ := entry.Values["data"].(string)
	if err := handle([]byte(data)); err != nil {
		// It would fail again: let it not stand in the way.
		fmt.Fprintf(c.out, "%s is left out: %v\n", entry.ID, err)
	}
	_, err := c.redis.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		if now := time.Now(); id != "" {
			tx.ZAdd(ctx, seen, redis.Z{Score: float64(now.Unix()), Member: id})
			tx.ZRemRangeByScore(ctx, seen, "-inf", strconv.FormatInt(now.Add(-c.remember).Unix(), 10))
		}
		tx.XAck(ctx, c.stream, c.group, entry.ID)
		return nil
	})
	return err
}

// decided handles a decision that changed. Here, and in chosen, is where your own work
// goes.
func (c *consumer) decided(data []byte) error {
	var d decision
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s %s %s is %s, before: %s (%s at %s× [%s–%s] the original's speed, rejected at %.4g× or below)\n",
		at(d.Timestamp), d.Model, d.Target, d.verdict(), orNothing(d.Previous), d.Phase, speed(&d.Drop), speed(d.Interval[1]), speed(d.Interval[0]), 1-d.Threshold/100)
	return nil
}

// verdict is the decision, and what rejected the copy.
func (d *decision) verdict() string {
	switch {
	case d.Gate == nil:
		return d.Decision
	case d.Quality != nil && len(d.Quality.Exceeded) > 0:
		return fmt.Sprintf("%s by %s (%s)", d.Decision, *d.Gate, strings.Join(d.Quality.breaches(), "; "))
	default:
		return d.Decision + " by " + *d.Gate
	}
}

// breaches says which figures are beyond their limits: "KL divergence up to 0.176, limit 0.05".
func (f *figures) breaches() []string {
	var all []string
	for _, name := range f.Exceeded {
		limit := f.Limits[name]
		switch name {
		case "max_kl_divergence":
			all = append(all, fmt.Sprintf("KL divergence up to %.3g, limit %.3g", f.KLDivergence[1], limit))
		case "min_top1_agreement":
			all = append(all, fmt.Sprintf("top token agrees in as little as %.1f %%, limit %.4g %%", f.Top1Agreement[0], limit*100))
		case "max_perplexity_increase":
			all = append(all, fmt.Sprintf("perplexity higher by up to %.1f %%, limit %.4g %%", f.PerplexityIncrease[1], limit*100))
		case "max_kl_divergence_p999":
			all = append(all, fmt.Sprintf("KL divergence of 1 token in 1000 above %.3g, limit %.3g", f.P999, limit))
		case "max_rms_dp":
			all = append(all, fmt.Sprintf("RMS Δp up to %.1f %%, limit %.4g %%", f.RMSDeltaP[1], limit*100))
		default: // a later version's
			all = append(all, name)
		}
		if limit == 0 {
			all[len(all)-1] = name
		}
	}
	return all
}

// speed is the copy's beside the original's; what is beyond a hundred times as fast, or as slow, is
// noise. The end of an interval may be open.
func speed(dropPercent *float64) string {
	if dropPercent == nil {
		return "open"
	}
	switch v := 1 - *dropPercent/100; {
	case v > 100:
		return "> 100"
	case v < 0.01:
		return "< 0.01"
	case v >= 9.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 1.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// chosen handles that another format of a model is to be served, or none any more.
func (c *consumer) chosen(data []byte) error {
	var d choice
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s %s is to be served as %s (%s), before: %s\n", at(d.Timestamp), d.Model, orNothing(d.Chosen), d.Choose, orNothing(d.Previous))
	return nil
}

func at(unixSeconds float64) string {
	return time.UnixMicro(int64(unixSeconds * 1e6)).UTC().Format(time.RFC3339)
}

func orNothing(word *string) string {
	if word == nil {
		return "nothing"
	}
	return *word
}
