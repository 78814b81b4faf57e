package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
)

// maxForm is more than anybody has to say to start a run.
const maxForm = 1 << 20

// run starts a run of an entry, as soon as it is its turn.
func (s *server) run(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.answerForm(w, r, errorBadData, "the parameters cannot be read: "+err.Error(), nil)
		return
	}
	entry, models := r.Form.Get("entry"), r.Form["model"]
	taken, kind, text := s.findRun(entry, models)
	if kind == "" {
		if err := s.Run(entry, models); err != nil {
			kind, text = errorConflict, err.Error()
		}
	}
	s.answerForm(w, r, kind, text, map[string]any{"entry": entry, "models": orEmpty(taken)})
}

// findRun gives the models that a run takes: those asked for, or all of the entry without
// any. Or it says what is wrong with what is asked for.
func (s *server) findRun(entry string, models []string) (taken []string, kind errorType, text string) {
	if entry == "" {
		return nil, errorBadData, "entry is missing: give the name of an entry of the schedule"
	}
	k := s.snapshot()
	if !slices.ContainsFunc(k.status.Entries, func(e dispatch.EntryStatus) bool { return e.Name == entry }) {
		return nil, errorNotFound, fmt.Sprintf("there is no entry %q in the schedule", entry)
	}
	all := k.modelsOf(entry)
	for _, model := range models {
		if !slices.Contains(all, model) {
			return nil, errorNotFound, fmt.Sprintf("the entry %q decides no model %q", entry, model)
		}
	}
	if len(models) == 0 {
		return all, "", ""
	}
	return models, "", ""
}

// cancel ends the cycle that runs.
func (s *server) cancel(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	cycle, err := strconv.ParseUint(r.FormValue("cycle"), 10, 64)
	if err != nil {
		s.answerForm(w, r, errorBadData, fmt.Sprintf("cycle is %q: give the number of the cycle that runs", r.FormValue("cycle")), nil)
		return
	}
	kind, text := errorType(""), ""
	if err := s.Cancel(cycle); err != nil {
		kind, text = errorConflict, err.Error()
		if _, _, known, err := s.Store.Cycle(cycle); err == nil && !known {
			kind, text = errorNotFound, fmt.Sprintf("there is no cycle %d", cycle)
		}
	}
	s.answerForm(w, r, kind, text, map[string]any{"cycle": cycle})
}

// answerForm says that what was asked for is under way, or why it is not: to a browser
// that sent a form by leading it to a page, and to programs as JSON.
func (s *server) answerForm(w http.ResponseWriter, r *http.Request, kind errorType, text string, accepted any) {
	browser := strings.Contains(r.Header.Get("Accept"), "text/html")
	switch {
	case kind != "" && browser:
		s.explain(w, r, kind.status(), "That did not work", text)
	case kind != "":
		refuse(w, r, kind, text)
	case browser:
		http.Redirect(w, r, s.links+"/", http.StatusSeeOther)
	default:
		writeJSON(w, http.StatusAccepted, answer{Status: "success", Data: accepted})
	}
}
