// Package verdict decides from paired measurements whether a quantized model lost so much
// throughput that it is not worth keeping. Rounds go in, a decision and an interval come
// out: the package does no I/O, reads no clock and starts no goroutine, and the same
// rounds give the same verdict on every host.
//
// # The question
//
// Did throughput drop by the threshold m or more? This is a one-sided non-inferiority
// test on the log ratio of two throughputs. In each round both stages, original and
// quantized, are measured once, in an order that turns from round to round (QuantizedFirst
// says how), and per phase
//
//	d = ln(quantized / original),  drop = 1 − exp(d),  boundary L0 = ln(1 − m)
//
// A drop of exactly m belongs to rejected.
//
// # One look
//
// A look at n rounds trims g = ⌊n/6⌋ values at each end and keeps h = n − 2g. T is the
// trimmed mean of d, s the winsorised standard deviation, and
//
//	se = max(s·√((n−1)/(h(h−1))), 0.002/√n)
//
// (Yuen, "The two-sample trimmed t for unequal population variances", Biometrika 61,
// 1974, for one sample). The second term is a floor: no clock, governor or cache is
// steadier than 0.2 % from round to round, so that three equal readings are luck and no
// certainty. With t(α) the upper α quantile of Student's t with h − 1 degrees of freedom,
//
//	kept      when T − t(α)·se > L0 in every phase
//	rejected  when T + t(α/phases)·se ≤ L0 in any phase
//
// and otherwise measuring goes on. Kept needs every phase, an intersection-union test,
// which costs no correction. Any one phase rejects, which does: hence α/phases.
//
// A phase that a look keeps is settled, and need not be measured any more: each phase has a
// sequential test of its own, with all of α, so that a phase at the threshold passes with a
// probability of at most α, whichever looks the others pass at.
//
// # Several looks
//
// Looks are planned at 3, 4, 6, 8, 12, 16, 20, 28, 40 and 56 rounds, and so on (1.4 times
// as many each time). The configuration cuts a piece out of that list, and its two ends are
// always looks: with rounds 5 to 10 they are at 5, 6, 8 and 10.
//
// The default is 3 to 56 rounds. On a noisy shared host, where the log ratio was measured
// to spread by 0.23 from round to round in generation and by 0.17 in prompt, a maximum of
// 20 rounds leaves about half of the cycles of a model against itself inconclusive, 40
// about a sixth and 56 about one in sixteen. Easy cases still end after 3 or 4, and the
// time budget of a cycle bounds the rest.
//
// Each look spends its own part of Config.Alpha. Looks before the sixth round get little,
// 2 % of it at three rounds and 4 % at four or five, because with so few rounds the t
// distribution holds only if the noise is nearly normal, and a clear case needs no more.
// The late ones, from the sixth round on, share alike: one alone has 0.80 of Alpha, several
// have 0.90 between them. For the default of eight late looks and Alpha 0.05 that is 0.001,
// 0.002 and eight times 0.005625. Looks share rounds, so that their errors coincide and sum
// up to less than is spent: what is left is for noise that lasts for about a run, under
// which all of Alpha would be exceeded (5.2 % of false rejections with correlation 0.5 from
// run to run and two phases; 4.8 % with 0.90). Below an Alpha of 0.05, and with three phases or
// more, which share it, several have 0.80, too: so far out, the tails of a trimmed mean of few rounds are
// heavier than the tails of t.
//
// The tests simulate that no verdict errs more often than Alpha: under independent and
// lasting noise, random walks, trends, outliers, bursts and the recorded noise of a real
// host with the default, and with other ranges of rounds and other Alphas.
//
// # The interval
//
// Lower and Upper of a phase are the ends that decided, at the last look taken:
// a kept pair has Upper < threshold in every phase, and the phase that rejected a pair
// has Lower ≥ threshold. Upper uses α and Lower uses α/phases, so that Lower is a little
// further from Drop. Whichever look ended the measurement, Upper is too low with a
// probability of at most Alpha, and any Lower too high with one of at most Alpha:
// Verdict.Confidence is what is left to both ends of one phase, 1 − Alpha − Alpha/phases.
package verdict
