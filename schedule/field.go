package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// field is one of the five of a spec.
type field struct {
	name      string
	low, high int
	values    string   // for messages
	names     []string // of the values from low on
}

var fields = [...]field{
	{"minute", 0, 59, "0 to 59", nil},
	{"hour", 0, 23, "0 to 23", nil},
	{"day of month", 1, 31, "1 to 31", nil},
	{"month", 1, 12, "1 to 12 or JAN to DEC", []string{
		"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
	}},
	{"day of week", 0, 7, "0 to 7 (Sunday is 0 and 7) or SUN to SAT", []string{
		"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT",
	}},
}

// isWeek says that the field's values go round: a week has no end.
func (f *field) isWeek() bool { return f.high == 7 }

// plain writes the field as a list of numbers, or as *. That is the part of cron's
// grammar that every implementation reads the same way.
func (f *field) plain(text string) (string, error) {
	if text == "*" {
		return "*", nil
	}
	var values []string
	all := false
	for item := range strings.SplitSeq(text, ",") {
		low, high, step, err := f.span(item)
		if err != nil {
			return "", fmt.Errorf("%s %q: %w", f.name, text, err)
		}
		all = all || step == 1 && strings.HasPrefix(item, "*")
		for v := low; v <= high; v += step {
			if f.isWeek() {
				values = append(values, strconv.Itoa(v%7))
			} else {
				values = append(values, strconv.Itoa(v))
			}
		}
	}
	if all { // */1
		return "*", nil
	}
	return strings.Join(values, ","), nil
}

// span reads one item of a list. In a range of days past the end of the week, high is
// beyond 7.
func (f *field) span(item string) (low, high, step int, err error) {
	span, stepText, stepped := strings.Cut(item, "/")
	first, last, ranged := strings.Cut(span, "-")
	switch {
	case span == "*" && !stepped:
		return 0, 0, 0, errors.New("* stands for every value: write it without others")
	case span == "*":
		low, high = f.low, f.high
		if f.isWeek() {
			high = 6
		}
	case ranged:
		if low, err = f.value(first); err != nil {
			return 0, 0, 0, err
		}
		if high, err = f.value(last); err != nil {
			return 0, 0, 0, err
		}
	default:
		if low, err = f.value(first); err != nil {
			return 0, 0, 0, err
		}
		if stepped {
			return 0, 0, 0, fmt.Errorf("a step needs a range: write %d-%d/%s, or */%s", low, f.high, stepText, stepText)
		}
		high = low
	}
	if high < low {
		if !f.isWeek() {
			return 0, 0, 0, fmt.Errorf("the range %s ends before it begins: write %d-%d,%d-%d", span, low, f.high, f.low, high)
		}
		high += 7
	}
	if !stepped {
		return low, high, 1, nil
	}
	step, err = number(stepText)
	if err != nil || step < 1 || step > high-low {
		return 0, 0, 0, fmt.Errorf("%q is not a step within %s: use 1 to %d", stepText, span, max(1, high-low))
	}
	return low, high, step, nil
}

// value reads a number or a name.
func (f *field) value(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.low + i, nil
		}
	}
	v, err := number(text)
	if err != nil || v < f.low || v > f.high {
		return 0, fmt.Errorf("%q is not %s %s: use %s, or * for every one", text, article(f.name), f.name, f.values)
	}
	return v, nil
}

// article goes before the name of a field.
func article(name string) string {
	if name == "hour" {
		return "an"
	}
	return "a"
}

// number reads digits and nothing else: strconv.Atoi takes signs, too.
func number(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err
}
