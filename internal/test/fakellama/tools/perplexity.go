package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/test/fakellama"
)

// qualities are the qualities of the bundled model's copies.
var qualities = []fakellama.Quality{
	{Format: "Q8_0", KLDivergence: 0.0002, SameTop: 0.987, LogRatio: 0},
	{Format: "Q6_K", KLDivergence: 0.0013, SameTop: 0.972, LogRatio: 0.003},
	{Format: "Q4_K_M", KLDivergence: 0.0115, SameTop: 0.925, LogRatio: 0.015},
	{Format: "Q3_K_M", KLDivergence: 0.0375, SameTop: 0.87, LogRatio: 0.029},
	{Format: "Q2_K", KLDivergence: 0.1642, SameTop: 0.74, LogRatio: 0.1234},
	{Format: "", KLDivergence: 0.0001, SameTop: 0.999, LogRatio: 0}, // all others are nearly as good as the original
}

// perplexity of the original.
const originalPerplexity = 24.878433

func (f *fake) perplexity() {
	values := map[string]string{}
	compare := false
	for i := 0; i < len(f.args); i++ {
		switch arg := f.args[i]; arg {
		case "--help":
			f.begin("help", "", "")
			fmt.Print(perplexityHelp)
			return
		case "--kl-divergence":
			compare = true
		case "-m", "-f", "-c", "-t", "--chunks", "--kl-divergence-base":
			i++
			if i == len(f.args) || values[arg] != "" {
				f.fail("error: invalid argument: " + arg)
			}
			values[arg] = f.args[i]
		case "-nr":
		default:
			f.fail("error: invalid argument: " + arg)
		}
	}
	context, err := strconv.Atoi(values["-c"])
	if err != nil {
		f.fail("error: invalid argument: -c")
	}
	if compare {
		f.compare(values["-m"], values["--kl-divergence-base"], context)
		return
	}
	chunks, err := strconv.Atoi(values["--chunks"])
	if err != nil {
		f.fail("error: invalid argument: --chunks")
	}
	f.predict(values["-m"], values["-f"], values["--kl-divergence-base"], context, chunks)
}

// predict is the first pass. A token of the fake is four bytes of the text.
func (f *fake) predict(model, corpus, output string, context, chunks int) {
	stage, format := f.stage(model)
	do, _ := f.begin("predict", stage, format)
	source, err := readModel(model)
	if err != nil || do == fakellama.NotLoaded {
		f.say(fmt.Sprintf("0.00.006.378 E cmn  common_init_: failed to load model '%s'", model))
		f.fail("unable to load model")
	}
	text, err := os.ReadFile(corpus)
	if err != nil {
		f.fail(fmt.Sprintf("error: failed to open file '%s'", corpus))
	}
	tokens := len(text) / 4
	if do == fakellama.ShortText {
		tokens = context
	}
	if tokens < 2*context {
		f.writeZeros(output, []byte("_logits_"), 0)
		f.say(fmt.Sprintf("0.00.023.879 E perplexity: you need at least %d tokens to evaluate perplexity with a context of %d", 2*context, context))
		f.say(fmt.Sprintf("0.00.023.893 E perplexity: the data file you provided tokenizes to only %d tokens", tokens))
		return
	}
	chunks = min(chunks, tokens/context)
	if do == fakellama.FewChunks {
		chunks /= 2
	}
	vocabulary := 0
	for _, t := range source.tensors {
		if t.name == "token_embd.weight" {
			vocabulary = int(t.dimensions[1])
		}
	}
	if f.leave(do, output) {
		return
	}
	if do == fakellama.OtherVocabulary {
		vocabulary *= 2
	}
	header := []byte("_logits_")
	for _, n := range []int{context, vocabulary, chunks} {
		header = binary.LittleEndian.AppendUint32(header, uint32(n))
	}
	size := len(header) + 4*context*chunks + 2*((vocabulary+1)/2*2+4)*(context-1-context/2)*chunks
	if do == fakellama.HalfPredictions {
		size /= 2
	}
	f.writeZeros(output, header, size)
	f.say(fmt.Sprintf("0.03.011.410 I Final estimate: PPL = %.4f +/- 0.66502", originalPerplexity))
}

// writeZeros writes a file of zeros after its header.
func (f *fake) writeZeros(path string, header []byte, size int) {
	err := os.WriteFile(path, header, 0o600)
	if err == nil && size > 0 {
		err = os.Truncate(path, int64(size))
	}
	if err != nil {
		f.fail(err.Error())
	}
}

// compare is the pass of a copy.
func (f *fake) compare(model, predictions string, context int) {
	stage, format := f.stage(model)
	do, _ := f.begin("", stage, format)
	if _, err := readModel(model); err != nil || do == fakellama.NotLoaded {
		f.say(fmt.Sprintf("0.00.006.378 E cmn  common_init_: failed to load model '%s'", model))
		f.fail("unable to load model")
	}
	header, err := os.ReadFile(predictions)
	if err != nil || len(header) < 20 {
		f.say("0.03.987.926 E kl_divergence: failed to open " + predictions)
		return
	}
	if kept := int(binary.LittleEndian.Uint32(header[8:])); kept != context {
		f.say(fmt.Sprintf("kl_divergence: %s has been computed with %d, while the current context is %d", predictions, kept, context))
	}
	chunks := int(binary.LittleEndian.Uint32(header[16:]))
	if do == fakellama.FewChunks {
		chunks /= 2
	}
	fmt.Print(comparison(f.quality(stage, format), chunks, do))
}

func (f *fake) quality(stage, format string) fakellama.Quality {
	if stage == "original" {
		return fakellama.Quality{SameTop: 1}
	}
	all := append(slices.Clone(f.behaviour.Qualities), qualities...)
	return all[slices.IndexFunc(all, func(q fakellama.Quality) bool { return q.Format == "" || q.Format == format })]
}

// comparison is what llama-perplexity prints.
func comparison(q fakellama.Quality, chunks int, do fakellama.Do) string {
	var out strings.Builder
	out.WriteString("0.13 minutes\n\nchunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS            Same top p\n")
	var divergence, ratio, same, square float64 // means so far
	for i := range chunks {
		n := float64(i + 1)
		scatter := 1 + 0.1*float64((i*7)%5-2)/2
		divergence += (q.KLDivergence*scatter - divergence) / n
		ratio += (q.LogRatio*scatter - ratio) / n
		same += (1 - (1-q.SameTop)*scatter - same) / n
		square += (q.KLDivergence*scatter/16 - square) / n // as the bundled model's copies have it, about
		shown := strconv.FormatFloat(divergence, 'f', 5, 64)
		if do == fakellama.NaN && i == chunks/2 {
			shown = "nan"
		}
		perplexity := originalPerplexity * math.Exp(ratio)
		switch do {
		case fakellama.NegativeDivergence:
			shown = "-" + shown
		case fakellama.PerplexityBelow1:
			perplexity = 0.5
		case fakellama.HugePerplexity:
			perplexity = 1e300
		}
		fmt.Fprintf(&out, "%4d  %10.4f ± %9.4f    %10.5f ± %10.5f    %10s ± %10.5f    %6.3f ± %6.3f %%    %6.3f ± %6.3f %%\n",
			i+1, perplexity, 0.75, ratio, 0.007, shown, 0.003, 100*math.Sqrt(square), 0.245, 100*same, 0.486)
	}
	if do == fakellama.Truncated {
		return out.String()[:out.Len()-60]
	}
	if do == fakellama.NoSummary {
		return out.String()
	}
	perplexity, original, times := originalPerplexity*math.Exp(ratio), originalPerplexity, 1.0
	switch do {
	case fakellama.OtherSummary:
		divergence *= 2
	case fakellama.OtherRatio:
		original *= 2
	case fakellama.OtherPerplexity:
		perplexity *= 2
	case fakellama.QuantilesOff:
		times = 0.01
	}
	fmt.Fprintf(&out, "\n====== Perplexity statistics ======\nMean PPL(Q)                   : %10.6f ± %10.6f\nMean PPL(base)                : %10.6f ± %10.6f\n",
		perplexity, 0.748725, original, 0.665022)
	fmt.Fprintf(&out, "Mean ln(PPL(Q)/PPL(base))     : %10.6f ± %10.6f\n\n====== KL divergence statistics ======\nMean    KLD: %10.6f ± %10.6f\n\n", ratio, 0.006918, divergence, 0.003013)
	for _, quantile := range []struct {
		name  string
		times float64
	}{{"Maximum", 32}, {"99.9%  ", 16}, {"99.0%  ", 8}, {"95.0%  ", 4}, {"90.0%  ", 2}, {"Median ", 0.5}, {"10.0%  ", 0.1}, {"Minimum", 0.01}} {
		if do != fakellama.NoQuantile || quantile.times != 16 {
			fmt.Fprintf(&out, "%s KLD: %10.6f\n", quantile.name, times*quantile.times*divergence)
		}
	}
	fmt.Fprintf(&out, "\n====== Token probability statistics ======\nRMS Δp    : %6.3f ± %5.3f %%\n", 100*math.Sqrt(square), 0.245)
	fmt.Fprintf(&out, "Same top p: %6.3f ± %5.3f %%\n\n", 100*same, 0.486)
	return out.String()
}
