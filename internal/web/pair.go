package web

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quant-exporter/quant-exporter/internal/store"
	"github.com/quant-exporter/quant-exporter/internal/text"
	"github.com/quant-exporter/quant-exporter/internal/verdict"
	"github.com/quant-exporter/quant-exporter/runner"
)

// pairView is a row of the table of pairs.
type pairView struct {
	id            store.PairID
	Model, Target string
	Source        string // format of the original; "" when it is not known
	Baseline      bool   // whether Source is what the original is made in, and not the model's own format
	Beside        string // Source, where that is another one than that of the first pair of the model
	Against       string // the file that is the copy; "" where one is made
	Scheduled     bool
	Entry         string // that decides it; "" when it is not scheduled
	Running       bool   // its cycle goes on
	// Decision in a word: kept, rejected, inconclusive, or undecided before any.
	Decision string
	// Quality says how good the copy is, and by which limits it is not good enough; ""
	// where that was not evaluated. QualityFigures are all of them.
	Quality, QualityFigures string
	// Chosen says why this is the format to serve; "" when it is not.
	Chosen string
	// Outranked is set when it was passed over the last time.
	Outranked *outrankedView
	// Note says what of the decision the figures do not show.
	Note string
	// Changes are the inputs that were not as they had been at the decision before.
	Changes   []string
	Threshold string
	Phases    []phaseView // in the order of the configuration; none before a measurement
	// Size, of the copy, and Original; "" when they are not known.
	Size, Original, BitsPerWeight string
	Share                         string // of the original's size
	History                       *sparkView
	Cycle                         uint64 // that decided; 0 before
	Decided, Next                 moment
	Failure                       *failureView
	// Published is the latest publication, and Unpublished a newer one that failed; nil for
	// none.
	Published, Unpublished *publicationView

	// What is sorted by.
	worst float64
	bytes int64
	last  time.Time
	entry string
}

// phaseView is what was measured of one phase.
type phaseView struct {
	Name                string
	Original, Quantized string
	Drop, Interval      string
	Outcome             string
	Bar                 *barView
}

// outrankedView is for which target a pair was passed over.
type outrankedView struct {
	By    string
	Cycle uint64
}

type failureView struct {
	Word, Reason string // see failedWord
	Message      string
	// First is the beginning of the message, and Rest what follows.
	First, Rest string
	When        moment
	Cycle       uint64
}

func newFailureView(failed *store.Failed, now time.Time) *failureView {
	v := &failureView{
		Word: failedWord(failed.Reason), Reason: string(failed.Reason), Message: text.Text(failed.Error),
		When: momentOf(failed.Finished, now), Cycle: failed.Cycle,
	}
	v.First, v.Rest = fold(v.Message)
	return v
}

// failedWord says in a word how a pair came to no decision. With one that was stopped
// nothing is wrong.
func failedWord(reason runner.Reason) string {
	switch reason {
	case runner.ReasonCanceled, runner.ReasonInterrupted:
		return string(reason)
	default:
		return "failed"
	}
}

// failure is the word, and the reason where the word does not say it.
func failure(reason runner.Reason) (word, why string) {
	if word = failedWord(reason); word == string(reason) {
		return word, ""
	}
	return word, string(reason)
}

// maxFirst is how long the beginning of a message may be, in bytes: about two lines.
const maxFirst = 240

// fold cuts a message after its first line, or within one that is too long.
func fold(message string) (first, rest string) {
	first, rest, _ = strings.Cut(message, "\n")
	if len(first) <= maxFirst {
		return first, rest
	}
	end := strings.LastIndexByte(first[:maxFirst], ' ')
	if end < 0 { // one long word wraps
		return first, rest
	}
	return first[:end] + " …", "… " + message[end+1:]
}

// AgainstBase is the file without its folder, for a narrow column.
func (v *pairView) AgainstBase() string { return filepath.Base(v.Against) }

func newPairView(id store.PairID) *pairView {
	return &pairView{id: id, Model: text.Name(id.Model), Target: text.Name(id.Target), Decision: "undecided", worst: math.Inf(-1)}
}

// fill adds what is known of the pair.
func (v *pairView) fill(pair *store.Pair, now time.Time) {
	if pair.Standing != "" {
		v.Decision = string(pair.Standing)
	}
	if decided := pair.Decided; decided != nil {
		v.decided(pair, decided, now)
	}
	v.Published, v.Unpublished = viewPublication(pair.Published, now), viewPublication(pair.Unpublished, now)
	if failed := pair.Failed; failed != nil {
		v.Failure = newFailureView(failed, now)
		v.last = failed.Finished
	}
	if outranked := pair.Outranked; outranked != nil {
		v.Outranked = &outrankedView{text.Name(outranked.By), outranked.Cycle}
		v.last = outranked.Finished
	}
}

func (v *pairView) decided(pair *store.Pair, decided *store.Decided, now time.Time) {
	if pair.Standing == "" {
		v.Decision = string(decided.Verdict.Outcome)
	}
	v.Source, v.Against = text.Name(decided.SourceFormat), text.Name(decided.Against)
	v.Threshold = text.Threshold(decided.Threshold)
	v.Cycle, v.Decided, v.last = decided.Cycle, momentOf(decided.Finished, now), decided.Finished
	v.Note, v.Changes = note(pair), changeTexts(decided.Changes)
	if q := decided.Quality; q != nil {
		v.Quality, v.QualityFigures = "KL divergence "+text.Divergence(q.KLDivergence.Estimate), q.Figures()
		if exceeded := q.Breaches(q.Limits); exceeded != "" {
			v.Quality = exceeded
		}
	}
	v.bytes = decided.QuantizedFile.Bytes
	v.Size, v.Original = fileSize(decided.QuantizedFile.Bytes), fileSize(decided.OriginalFile.Bytes)
	if v.Size != "" {
		v.BitsPerWeight = fmt.Sprintf("%.2f", decided.QuantizedFile.BitsPerWeight)
	}
	if v.Size != "" && v.Original != "" {
		v.Share = fmt.Sprintf("%.0f %%", 100*float64(decided.QuantizedFile.Bytes)/float64(decided.OriginalFile.Bytes))
	}
	if v.Phases = viewPhases(&decided.Verdict, decided.Threshold); v.Phases != nil {
		v.worst = decided.Verdict.Worst().Drop
	}
}

func changeTexts(changes []runner.Change) []string {
	var all []string
	for _, change := range changes {
		all = append(all, text.Name(change.Text))
	}
	return all
}

// viewPhases is nil when nothing was measured.
func viewPhases(v *verdict.Verdict, threshold float64) []phaseView {
	if v.Rounds == 0 {
		return nil
	}
	var all []phaseView
	for _, p := range v.Phases {
		all = append(all, phaseView{
			Name:     string(p.Phase),
			Original: text.Throughput(p.Original), Quantized: text.Throughput(p.Quantized),
			Drop: text.Percent(p.Drop), Interval: interval(p.Lower, p.Upper),
			Outcome: string(p.Outcome),
			Bar:     newBar(string(p.Outcome), p.Drop, p.Lower, p.Upper, threshold),
		})
	}
	return all
}

// is says whether a pair is in a state that one can select.
func (v *pairView) is(state string) bool {
	if state == "failed" {
		return v.Failure != nil && v.Failure.Word == state
	}
	return v.Decision == state
}

// forgotten is a pair that nobody asks for any more, and of which nothing was found out: a
// mistyped target, a model that was removed.
func (v *pairView) forgotten() bool {
	return !v.Scheduled && !v.Running && v.Decision == "undecided"
}

// concern is how far down a pair belongs when what needs attention comes first.
func (v *pairView) concern() int {
	if v.is("failed") {
		return 0
	}
	for i, decision := range []string{"rejected", "inconclusive", "undecided"} {
		if v.Decision == decision {
			return i + 1
		}
	}
	return 4
}

// note says why the decision is not the one that the last measurement suggests.
func note(pair *store.Pair) string {
	v := pair.Decided.Verdict
	switch {
	case pair.Decided.Unconfirmed:
		return "a change was measured, and not confirmed"
	case v.Outcome == verdict.Inconclusive && pair.Standing != "":
		return "last measurement inconclusive"
	case v.Outcome == verdict.Rejected && (len(v.Phases) > 1 || v.Gate == verdict.GateQuality):
		return "by " + string(v.Gate)
	}
	return ""
}

// primary is the phase whose figures stand for the pair: that of generation, or the only
// one that was measured. "" when nothing was.
func primary(points []store.Point) verdict.Phase {
	for _, point := range slices.Backward(points) {
		for _, p := range point.Phases {
			if p.Phase == verdict.Generation {
				return p.Phase
			}
		}
		if len(point.Phases) > 0 {
			return point.Phases[0].Phase
		}
	}
	return ""
}
