// Package grafana reads a dashboard of Grafana's and asks its queries as Grafana would, as
// far as the tests of a dashboard on Prometheus need that. It knows what is common to
// Grafana 10 and 11 (schemaVersion 39). A [Dashboard] is not changed after it was read.
package grafana

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Dashboard is the JSON model of a dashboard
// (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/).
type Dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []Panel `json:"panels"` // panels of collapsed rows are within the rows
	Templating    struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []Annotation `json:"list"`
	} `json:"annotations"`
}

// Panel is a panel, or a row.
type Panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description"`
	GridPos     GridPos     `json:"gridPos"`
	DataSource  *DataSource `json:"datasource"`
	Repeat      string      `json:"repeat"`    // name of a variable
	Collapsed   bool        `json:"collapsed"` // of a row
	Panels      []Panel     `json:"panels"`    // of a collapsed row
	Targets     []Target    `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit     string    `json:"unit"`
			Mappings []Mapping `json:"mappings"`
		} `json:"defaults"`
		Overrides []struct {
			Properties []struct {
				ID    string          `json:"id"`
				Value json.RawMessage `json:"value"`
			} `json:"properties"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
}

// GridPos is a place on the grid, which is 24 columns wide.
type GridPos struct{ X, Y, W, H int }

// DataSource names where a query goes.
type DataSource struct{ Type, UID string }

// Target is a query of a panel.
type Target struct {
	RefID      string     `json:"refId"`
	DataSource DataSource `json:"datasource"`
	Expr       string     `json:"expr"`
	Instant    bool       `json:"instant"` // at the end of the time range, not over it
	Range      bool       `json:"range"`
	Format     string     `json:"format"` // "table" or "time_series"
}

// Mapping gives values words and colors.
type Mapping struct {
	Type    string                                  `json:"type"`
	Options map[string]struct{ Text, Color string } `json:"options"`
}

// Variable is a variable of the dashboard.
type Variable struct {
	Name       string      `json:"name"`
	Type       string      `json:"type"` // "datasource" or "query"
	DataSource *DataSource `json:"datasource"`
	// Query is text for type datasource, and an object with that text for type query.
	Query      json.RawMessage `json:"query"`
	Multi      bool            `json:"multi"`
	IncludeAll bool            `json:"includeAll"`
	AllValue   string          `json:"allValue"`
}

// Annotation is a query whose results are marked on all graphs.
type Annotation struct {
	Name       string     `json:"name"`
	DataSource DataSource `json:"datasource"`
	Enable     bool       `json:"enable"`
	Expr       string     `json:"expr"`
	Step       string     `json:"step"`
	Title      string     `json:"titleFormat"`
}

// Read reads a dashboard from a file.
func Read(path string) (*Dashboard, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the dashboard: %w", err)
	}
	var d Dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("reading the dashboard %s: %w", path, err)
	}
	return &d, nil
}

// Shown are all panels but the rows, those in collapsed rows too.
func (d *Dashboard) Shown() []Panel {
	var shown []Panel
	for _, p := range d.Panels {
		if p.Type != "row" {
			shown = append(shown, p)
		}
		shown = append(shown, p.Panels...)
	}
	return shown
}

// labelValues is label_values(selector, label).
var labelValues = regexp.MustCompile(`^label_values\((.+),\s*(\w+)\)$`)

// LabelValues gives what a variable of type query asks for: the values of a label of the
// series that match. It understands no other function than label_values.
func (v *Variable) LabelValues() (selector, label string, err error) {
	var query struct{ Query string }
	if err := json.Unmarshal(v.Query, &query); err != nil {
		return "", "", fmt.Errorf("the query of the variable %s: %w", v.Name, err)
	}
	match := labelValues.FindStringSubmatch(query.Query)
	if match == nil {
		return "", "", fmt.Errorf("the variable %s asks for %q, not for label_values(SELECTOR, LABEL)", v.Name, query.Query)
	}
	return match[1], match[2], nil
}

// Times are what Grafana's own variables say of the times of a query.
type Times struct {
	Interval time.Duration // $__interval: the step
	Rate     time.Duration // $__rate_interval
	Range    time.Duration // $__range
}

// Choice is what is chosen for each variable of the dashboard: one value or several, or
// All.
type Choice map[string][]string

// All chooses everything there is. It is not a value: a label may have any text.
func All() []string { return nil }

// reference is $name or ${name}.
var reference = regexp.MustCompile(`\$(?:([a-zA-Z_]\w*)|\{(\w+)\})`)

// Interpolate puts values in the place of variables, as Grafana's Prometheus data source
// does for those with multi or includeAll: for use behind =~. It returns an error for a name
// that is not a variable; Grafana would leave it as it is.
func (d *Dashboard) Interpolate(expr string, choice Choice, times Times) (string, error) {
	values := map[string]string{
		"__interval":      promDuration(times.Interval),
		"__rate_interval": promDuration(times.Rate),
		"__range":         promDuration(times.Range),
	}
	for _, v := range d.Templating.List {
		if chosen, ok := choice[v.Name]; ok {
			values[v.Name] = v.value(chosen)
		}
	}
	unknown := map[string]bool{}
	expr = reference.ReplaceAllStringFunc(expr, func(ref string) string {
		name := strings.Trim(ref, "${}")
		value, ok := values[name]
		if !ok {
			unknown[name] = true
		}
		return value
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("no variable of the dashboard that has a value: %s", strings.Join(slices.Sorted(maps.Keys(unknown)), ", "))
	}
	return expr, nil
}

// value is a regular expression for the chosen values, within a string of PromQL's.
func (v *Variable) value(chosen []string) string {
	if len(chosen) == 0 {
		return v.AllValue
	}
	var escaped []string
	for _, value := range chosen {
		escaped = append(escaped, escape(value))
	}
	if len(escaped) == 1 {
		return escaped[0]
	}
	return "(" + strings.Join(escaped, "|") + ")"
}

var special = regexp.MustCompile(`[$^*{}\[\]'+?.()|]`)

// escape is prometheusSpecialRegexEscape of Grafana's. It does not escape quotation marks.
func escape(value string) string {
	return special.ReplaceAllString(strings.ReplaceAll(value, `\`, `\\\\`), `\\$0`)
}

// promDuration writes a duration for PromQL, in whole milliseconds.
func promDuration(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
