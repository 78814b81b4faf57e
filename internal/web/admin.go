package web

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/quant-exporter/quant-exporter/internal/dispatch"
)

// maxForm is more than any request to start a run needs.
const maxForm = 1 << 20

// run starts a run of an entry, as soon as it is its turn.
func (s *server) run(r *http.Request) (any, error) {
	entry, models := r.Form.Get("entry"), r.Form["model"]
	taken, err := s.findRun(entry, models)
	if err != nil {
		return nil, err
	}
	if err := s.Dispatcher.RunNow(entry, models); err != nil {
		return nil, refused(errorConflict, "%v", err)
	}
	return map[string]any{"entry": entry, "models": orEmpty(taken)}, nil
}

// findRun returns the models that a run takes: the ones asked for, or all of the entry
// without any.
func (s *server) findRun(entry string, models []string) ([]string, error) {
	if entry == "" {
		return nil, refused(errorBadData, "entry is missing: give the name of an entry of the schedule")
	}
	k := s.snapshot()
	if !slices.ContainsFunc(k.status.Entries, func(e dispatch.EntryStatus) bool { return e.Name == entry }) {
		return nil, refused(errorNotFound, "there is no entry %q in the schedule", entry)
	}
	all := k.modelsOf(entry)
	for _, model := range models {
		if !slices.Contains(all, model) {
			return nil, refused(errorNotFound, "the entry %q does not decide the model %q", entry, model)
		}
	}
	if len(models) == 0 {
		return all, nil
	}
	return models, nil
}

// cancel ends the cycle that runs.
func (s *server) cancel(r *http.Request) (any, error) {
	cycle, err := strconv.ParseUint(r.Form.Get("cycle"), 10, 64)
	if err != nil {
		return nil, refused(errorBadData, "cycle is %q: give the number of the cycle that runs", r.Form.Get("cycle"))
	}
	if err := s.Dispatcher.Cancel(cycle); err != nil {
		if _, _, known, err := s.Store.Cycle(cycle); err == nil && !known {
			return nil, refused(errorNotFound, "there is no cycle %d", cycle)
		}
		return nil, refused(errorConflict, "%v", err)
	}
	return map[string]any{"cycle": cycle}, nil
}

// accepting reads the form and answers with what f accepted, or with why it did not: a
// browser that sent the form is led to a page, a program gets JSON.
func accepting(f func(*server, *http.Request) (any, error)) func(*server) http.Handler {
	return method(func(s *server, w http.ResponseWriter, r *http.Request) {
		var accepted any
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		err := r.ParseForm()
		if err != nil {
			err = refused(errorBadData, "the parameters cannot be read: %v", err)
		} else {
			accepted, err = f(s, r)
		}
		browser := fromBrowser(r)
		switch {
		case err != nil && browser:
			s.explain(w, r, "That did not work", err)
		case err != nil:
			refuse(w, r, kindOf(err), err.Error())
		case browser:
			http.Redirect(w, r, s.links+"/", http.StatusSeeOther)
		default:
			writeJSON(w, http.StatusAccepted, answer{Status: "success", Data: accepted})
		}
	})
}
