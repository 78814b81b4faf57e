package browsertest_test

import (
	"testing"

	"github.com/quant-exporter/quant-exporter/internal/llamacpp/fakellama"
)

// A host with a history: the pictures of the README are of it.
func TestHousehold(t *testing.T) {
	p := newPlace(t, fakellama.Behaviour{}, "gemma-3-1b-it", "llama-3.2-3b-instruct", "qwen/qwen2.5-0.5b")
	seed(t, p.state, nights, household()...)
	e := p.serve(quick + `
schedule:
  - {name: nightly, cron: "0 3 * * *", timezone: UTC, models: ["*"], targets: [Q2_K, Q4_K_M]}
  - {name: small, cron: "0 5 * * 6", timezone: UTC, models: ["gemma*", "qwen/*"], targets: [Q8_0, Q4_0]}
`)
	for name, as := range map[string]look{"light": wide, "dark": {width: 1360, height: 900, dark: true}, "narrow": narrow, "narrow-dark": {width: 390, height: 844, dark: true}} {
		t.Run(name, func(t *testing.T) {
			b := open(t, e.url, as)
			b.untilText("#results", "gemma-3-1b-it")
			b.screenshot("status-" + name)
			b.goTo(e.url + "/model?name=gemma-3-1b-it")
			b.screenshot("model-" + name)
			b.goTo(e.url + "/cycles/144")
			b.screenshot("cycle-" + name)
			b.goTo(e.url + "/cycles")
			b.screenshot("cycles-" + name)
		})
	}
}
