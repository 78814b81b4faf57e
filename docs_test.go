package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/a2a"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// pages is the documentation: the documentation and everything in docs.
func pages(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range append([]string{"README.md"}, files...) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(text)
	}
	return all.String()
}

// table gives the rows of the tables whose heading begins so, as cells.
func table(t *testing.T, heading string) [][]string {
	t.Helper()
	tables := strings.Split(pages(t), "\n| "+heading)[1:]
	require.NotEmpty(t, tables, "the documentation has no table %q", heading)
	var rows [][]string
	for _, text := range tables {
		for _, line := range strings.Split(text, "\n")[2:] { // below the heading and its line
			if !strings.HasPrefix(line, "|") {
				break
			}
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			rows = append(rows, cells)
		}
	}
	return rows
}

var code = regexp.MustCompile("`([^`]*)`")

// names are the words in code type of a cell.
func names(cell string) []string {
	var all []string
	for _, match := range code.FindAllStringSubmatch(cell, -1) {
		all = append(all, match[1])
	}
	return all
}

// documented is a flag that a person may use, under the name that the documentation gives it.
type documented struct {
	name string // "run --model"
	*kingpin.FlagModel
}

func documentedFlags() []documented {
	model := newFlags(io.Discard).app.Model()
	var all []documented
	add := func(prefix string, group *kingpin.FlagGroupModel) {
		for _, flag := range group.Flags {
			if !flag.Hidden {
				all = append(all, documented{prefix + "--" + flag.Name, flag})
			}
		}
	}
	add("", model.FlagGroupModel)
	for _, command := range model.FlattenedCommands() {
		if command.Name != "help" {
			add(command.Name+" ", command.FlagGroupModel)
		}
	}
	return all
}

func TestReadmeHasEveryFlag(t *testing.T) {
	rows := map[string][]string{}
	for _, row := range table(t, "flag | environment") {
		for _, name := range names(row[0]) {
			rows[name] = row
		}
	}
	var flags []string
	for _, flag := range documentedFlags() {
		flags = append(flags, flag.name)
		row, ok := rows[flag.name]
		if !assert.True(t, ok, "%s is not in the documentation", flag.name) {
			continue
		}
		assert.Equal(t, flag.Envar, strings.Join(names(row[1]), ""), "environment of %s", flag.name)
		log := strings.HasPrefix(flag.name, "--log.")
		for _, value := range flag.Default {
			if value != "false" && !log {
				assert.Contains(t, row[2], value, "default of %s", flag.name)
			}
		}
		toolkit := flag.name == "--web.listen-address" || flag.name == "--web.config.file"
		if !log && !toolkit { // these texts are their libraries'
			assert.Regexp(t, `\.$`, flag.Help, "help of %s", flag.name)
		}
	}
	for name := range rows {
		assert.Contains(t, flags, name, "the documentation has a flag that does not exist")
	}
	for _, match := range regexp.MustCompile(`--[a-z][a-z.-]*[a-z]`).FindAllString(pages(t), -1) {
		assert.True(t, slices.ContainsFunc(flags, func(flag string) bool { return flag == match || strings.HasSuffix(flag, " "+match) }),
			"the documentation speaks of %s, which does not exist", match)
	}
}

func TestHelpOfCommandsIsASentence(t *testing.T) {
	app := newFlags(io.Discard).app.Model()
	assert.Regexp(t, `\.$`, app.Help)
	for _, command := range app.FlattenedCommands() {
		assert.Regexp(t, `\.$`, command.Help, command.Name)
		for _, arg := range command.Args {
			if command.Name != "help" {
				assert.Regexp(t, `\.$`, arg.Help, command.Name)
			}
		}
	}
}

func TestHelpNamesTheDefaultsOfTheConfiguration(t *testing.T) {
	defaults := config.Default()
	for flag, value := range map[string]string{
		"run --threshold": strconv.FormatFloat(defaults.Threshold, 'g', -1, 64),
		"run --target":    defaultTarget,
		"--work.dir":      defaults.Work.Dir,
		"--storage.path":  defaults.Storage.Path,
	} {
		i := slices.IndexFunc(documentedFlags(), func(f documented) bool { return f.name == flag })
		require.GreaterOrEqual(t, i, 0, flag)
		assert.Contains(t, documentedFlags()[i].Help, "default: "+value+".", flag)
	}
}

func TestReadmeHasEveryKeyAndItsDefault(t *testing.T) {
	rows := map[string]string{}
	for _, row := range table(t, "key | default") {
		rows[names(row[0])[0]] = row[1]
	}
	defaults := config.Default()
	known := map[string]bool{}
	for key, value := range defaults.Keys() {
		known[key] = true
		known[strings.ReplaceAll(key, "[]", "")] = true
		for i := range key { // the sections that it is in
			known[key[:i]] = known[key[:i]] || key[i] == '.'
		}
		cell, ok := rows[key]
		if !assert.True(t, ok, "%s is not in the documentation", key) {
			continue
		}
		want := reflect.New(reflect.TypeOf(value))
		require.NoError(t, yaml.Unmarshal([]byte(strings.Join(names(cell), "")), want.Interface()), key)
		shown := want.Elem()
		if (shown.Kind() == reflect.Slice || shown.Kind() == reflect.Map) && shown.Len() == 0 {
			shown = reflect.Zero(shown.Type()) // [] and nothing are one
		}
		assert.Equal(t, value, shown.Interface(), "default of %s", key)
	}
	for key := range rows {
		assert.True(t, known[key], "the documentation has the key %s, which does not exist", key)
	}
	for _, match := range regexp.MustCompile("`((?:models|work|cache|engine|benchmark|threshold|quality|publish|storage|a2a|schedule)\\.[a-z_.]+)`").FindAllStringSubmatch(pages(t), -1) {
		assert.True(t, known[match[1]], "the documentation speaks of the key %s, which does not exist", match[1])
	}
}

func TestReadmeHasEveryReasonOfAFailure(t *testing.T) {
	want := stringConstants(t, filepath.Join("runner", "failure.go"), "Reason")
	var got []string
	for _, row := range table(t, "reason | what happened") {
		got = append(got, names(row[0])...)
		assert.NotEmpty(t, row[1])
	}
	assert.Equal(t, want, got)
}

// stringConstants are the values of the constants of a type in a file, in its order.
func stringConstants(t *testing.T, file, typeName string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	var values []string
	ast.Inspect(parsed, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typeName {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			values = append(values, value)
		}
		return true
	})
	require.NotEmpty(t, values)
	return values
}

// metricRows are the rows of the metrics' table.
func metricRows() []string {
	var rows []string
	for _, f := range collector.Families() {
		labels := make([]string, len(f.Labels))
		for i, label := range f.Labels {
			labels[i] = "`" + label + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", f.Name, f.Type, strings.Join(labels, ", "), f.Help))
	}
	return rows
}

// routeRows are the rows of the routes' table.
func routeRows() []string {
	var rows []string
	for _, r := range web.Routes() {
		help := r.Help
		if r.Flag != "" {
			help += "; with `" + r.Flag + "`"
		}
		rows = append(rows, strings.Replace(fmt.Sprintf("| %s | `%s` | %s |", r.Method, r.Path, help), "|  |", "| |", 1))
	}
	return rows
}

func TestReadmeHasEveryMetricAndRoute(t *testing.T) {
	for heading, want := range map[string][]string{
		"metric | type | labels | meaning": metricRows(),
		"method | path | what it is":       routeRows(),
	} {
		var got []string
		for _, row := range table(t, heading) {
			got = append(got, strings.ReplaceAll("| "+strings.Join(row, " | ")+" |", "|  |", "| |"))
		}
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "|  |", "| |")
		}
		assert.Equal(t, want, got, "the rows are\n%s", strings.Join(want, "\n"))
	}
}

func TestReadmeNamesOnlyMetricsThatExist(t *testing.T) {
	known := []string{"quant_exporter_build_info"}
	for _, f := range collector.Families() {
		known = append(known, f.Name)
	}
	for _, name := range regexp.MustCompile("quant_(?:cycle|exporter)_[a-z0-9_]+").FindAllString(pages(t), -1) {
		assert.Contains(t, known, name)
	}
}

func TestReadmeHasEveryReasonOfASkipAndOfAPublishFailure(t *testing.T) {
	for heading, want := range map[string][]string{
		"skipped because of | meaning": stringConstants(t, filepath.Join("internal", "store", "state.go"), "SkipReason"),
		"reason | what to do":          a2a.Reasons(),
	} {
		var got []string
		for _, row := range table(t, heading) {
			got = append(got, names(row[0])...)
		}
		assert.Equal(t, want, got)
	}
}

func TestReadmeHasEveryInput(t *testing.T) {
	var got []string
	for _, row := range table(t, "input | what it covers") {
		got = append(got, names(row[0])...)
	}
	assert.Equal(t, stringConstants(t, filepath.Join("runner", "inputs.go"), "Input"), got)
}

func TestReadmeHasEveryExitStatus(t *testing.T) {
	var got []string
	for _, row := range table(t, "exit status of `run` | meaning") {
		got = append(got, row[0])
	}
	var want []string
	for _, status := range []int{exitKept, exitRejected, exitInconclusive, exitFailed, exitError} {
		want = append(want, strconv.Itoa(status))
	}
	assert.Equal(t, want, got)
}
