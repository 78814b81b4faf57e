package docs

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/quant-exporter/quant-exporter/collector"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/disk"
	"github.com/quant-exporter/quant-exporter/internal/web"
)

// Tables are all tables that are generated.
func Tables(t testing.TB, root string, app *kingpin.ApplicationModel) map[string]Table {
	t.Helper()
	return map[string]Table{
		"keys":     keys(t, root),
		"commands": commands(app),
		"flags":    flags(app),
		"metrics":  metrics(),
		"routes":   routes(),
	}
}

func metrics() Table {
	table := Table{Columns: []string{"metric", "type", "labels", "meaning"}}
	for _, f := range collector.Families() {
		labels := make([]string, len(f.Labels))
		for i, label := range f.Labels {
			labels[i] = "`" + label + "`"
		}
		table.add(f.Name, "", "`"+f.Name+"`", f.Type, strings.Join(labels, ", "), code(f.Help))
	}
	return table
}

func routes() Table {
	table := Table{Columns: []string{"method", "path", "what it is"}}
	for _, r := range web.Routes() {
		help := r.Help
		if r.Flag != "" {
			help += "; with " + r.Flag
		}
		table.add(r.Method+" "+r.Path, "", r.Method, "`"+r.Path+"`", code(help))
	}
	return table
}

func commands(app *kingpin.ApplicationModel) Table {
	table := Table{Columns: []string{"command", "what it does"}}
	for _, command := range app.FlattenedCommands() {
		if command.Name == "help" {
			continue
		}
		name, help := []string{command.Name}, []string{command.Help}
		for _, arg := range command.Args {
			name = append(name, strings.ToUpper(arg.Name))
			help = append(help, strings.ToUpper(arg.Name)+": "+arg.Help)
		}
		table.add(command.Name, "", "`"+strings.Join(name, " ")+"`", code(strings.Join(help, " ")))
	}
	return table
}

// flags groups the flags by command; flags of every command have no group.
func flags(app *kingpin.ApplicationModel) Table {
	table := Table{Columns: []string{"flag", "environment", "meaning"}}
	add := func(command string, group *kingpin.FlagGroupModel) {
		for _, flag := range group.Flags {
			if flag.Hidden {
				continue
			}
			name, help, environment := "`--"+flag.Name+"`", flag.Help, ""
			if flag.Short != 0 {
				name = "`-" + string(flag.Short) + "`, " + name
			}
			if d := strings.Join(flag.Default, ", "); d != "" && d != "false" {
				help = strings.TrimSuffix(help, ".") + ". Default: `" + d + "`."
			}
			help = strings.Replace(help, disk.DefaultLockPath(), "`/run/lock/quant-exporter.lock`, or `/tmp/quant-exporter.lock` where not everybody may write there", 1)
			if flag.Envar != "" {
				environment = "`" + flag.Envar + "`"
			}
			table.add(command+" --"+flag.Name, command, name, environment, code(help))
		}
	}
	add("", app.FlagGroupModel)
	for _, command := range app.FlattenedCommands() {
		if command.Name != "help" {
			add(command.Name, command.FlagGroupModel)
		}
	}
	return table
}

// keys groups the keys of the configuration by their sections. Their meanings are the
// comments of the file that comes with the program.
func keys(t testing.TB, root string) Table {
	t.Helper()
	table := Table{Columns: []string{"key", "default", "meaning"}}
	meanings := comments(read(t, root+"/quant-exporter.yml"))
	defaults := config.Default()
	for key, value := range defaults.Keys() {
		meaning := meanings[key]
		if inherited, ok := value.(config.Inherited); ok {
			value, meaning = nil, fmt.Sprintf("overrides `%s` for this entry", inherited)
		}
		require.NotEmpty(t, meaning, "quant-exporter.yml has no comment beside %s", key)
		group, _, _ := strings.Cut(strings.Replace(key, "[]", "", 1), ".")
		table.add(key, group, "`"+key+"`", shown(t, value), code(meaning))
	}
	return table
}

// shown is a default as the file would have it.
func shown(t testing.TB, value any) string {
	t.Helper()
	var node yaml.Node
	require.NoError(t, node.Encode(value))
	node.Style |= yaml.FlowStyle
	text, err := yaml.Marshal(&node)
	require.NoError(t, err)
	switch text := strings.TrimSpace(string(text)); {
	case text == `""`, text == "null":
		return ""
	case node.Kind == yaml.MappingNode && reflect.ValueOf(value).IsZero():
		return "`{}`"
	default:
		return "`" + text + "`"
	}
}

var (
	keyLine      = regexp.MustCompile(`^( {0,4})(- )?(?:# )?([a-z][a-z0-9_]*):(?: (.*))?$`)
	continuation = regexp.MustCompile(`^ {6,}# (.*)$`)
)

// comments are those beside the keys of a file, by key. Keys may stand behind a # of
// their own.
func comments(text string) map[string]string {
	meanings := map[string]string{}
	type open struct {
		indent int
		key    string
	}
	var path []open
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if more := continuation.FindStringSubmatch(line); more != nil && len(path) > 0 {
			meanings[path[len(path)-1].key] += " " + more[1]
			continue
		}
		parts := keyLine.FindStringSubmatch(line)
		if parts == nil {
			continue
		}
		indent := len(parts[1]) + len(parts[2])
		for len(path) > 0 && path[len(path)-1].indent >= indent {
			path = path[:len(path)-1]
		}
		key := parts[3]
		if len(path) > 0 {
			key = path[len(path)-1].key + "." + key
		}
		if key == "schedule" {
			key = "schedule[]"
		}
		path = append(path, open{indent, key})
		_, meanings[key], _ = strings.Cut(" "+parts[4], " # ")
	}
	return meanings
}

func (t *Table) add(name, group string, cells ...string) {
	t.Rows = append(t.Rows, Row{name, group, cells})
}

var asCode = regexp.MustCompile("`[^`]*`" +
	`|--[a-z][a-z0-9.-]*[a-z]` + // flags
	`|\bquant_[a-z0-9_]+` + // metrics
	`|\b[A-Z0-9]+(?:_[A-Z0-9]+)+\b` + // variables
	`|\b(?:cache|work|engine|benchmark)\.[a-z]+(?:\.[a-z]+)*` + // keys
	`|(?:POST )?/(?:-|api)/[a-z0-9/]*[a-z/]` +
	`|\*\.gguf|data/[a-z]+|\[[^]]*"[^]]*\]|\{[^}]*\}|MODEL/TARGET/stable`)

// code puts what is for machines into code type, in a text for people.
func code(text string) string {
	return asCode.ReplaceAllStringFunc(text, func(word string) string {
		return "`" + strings.Trim(word, "`") + "`"
	})
}
