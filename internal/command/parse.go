package command

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"

	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Parse reads the command line and returns the name of the command. Its error says what was
// probably meant.
func (f *Flags) Parse(args []string) (command string, err error) {
	command, err = f.App.Parse(args)
	if err == nil {
		f.command = command
		return command, nil
	}
	context, _ := f.App.ParseContext(args) // as far as it came
	return "", f.explained(err, context, slices.Contains(args, "serve"))
}

// before does what kingpin would do otherwise, before it does it: it prints the manual page,
// and refuses to help with a command that does not exist.
func (f *Flags) before(context *kingpin.ParseContext) error {
	for _, element := range context.Elements {
		if flag, ok := element.Clause.(*kingpin.FlagClause); ok && flag == f.App.GetFlag("help-man") {
			if err := f.App.UsageForContextWithTemplate(context, 2, manual()); err != nil {
				return fmt.Errorf("writing the manual page: %w", err)
			}
			os.Exit(ExitKept) // as kingpin does after a help text
		}
		if _, ok := element.Clause.(*kingpin.ArgClause); ok && context.SelectedCommand == f.App.HelpCommand && element.Value != nil {
			if !slices.Contains(f.commands(), *element.Value) {
				return f.noCommand(*element.Value)
			}
		}
	}
	return nil
}

// manual is kingpin's template of the manual page, with a title that has one line: kingpin writes
// all of --version into it.
func manual() string {
	return strings.Replace(kingpin.ManPageTemplate, `{{.App.Version}} "{{.App.Author}}"`, fmt.Sprintf("%q %q", "", "quant-exporter "+version.Version), 1)
}

// What kingpin says about a word that it does not know, or that is missing.
var (
	unknownFlag    = regexp.MustCompile(`^unknown (?:long|short) flag '(.*)'$`)
	unexpectedWord = regexp.MustCompile(`^unexpected (.*)$`)
	notOneOf       = regexp.MustCompile(`^enum value must be one of (.*), got '(.*)'$`)
	unparsable     = regexp.MustCompile(`^strconv\.Parse(\w+): parsing ("(?:[^"\\]|\\.)*"): `)
	noLevel        = regexp.MustCompile(`^unrecognized log (level|format) (.*)$`)
	missing        = regexp.MustCompile(`^required argument '(.*)' not provided$`)
)

// explained is kingpin's error in our words, where it is about a word that is not known or
// a value that cannot be used.
func (f *Flags) explained(err error, context *kingpin.ParseContext, serve bool) error {
	command := "serve"
	if context != nil && context.SelectedCommand != nil {
		command = context.SelectedCommand.FullCommand()
	}
	if match := unknownFlag.FindStringSubmatch(err.Error()); match != nil {
		return f.noFlag(match[1], command)
	}
	if match := unexpectedWord.FindStringSubmatch(err.Error()); match != nil {
		return f.noWord(match[1], command, serve)
	}
	if match := notOneOf.FindStringSubmatch(err.Error()); match != nil {
		options := strings.Split(match[1], ",")
		return fmt.Errorf("%s%q is not one of %s%s", flagOf(context, match[2]), match[2], strings.Join(options, ", "), text.DidYouMean(match[2], options))
	}
	if match := unparsable.FindStringSubmatch(err.Error()); match != nil {
		value := strings.Trim(match[2], `"`)
		if match[1] == "Bool" {
			return fmt.Errorf("%s%s is not true or false", f.variableOf(value), match[2])
		}
		return fmt.Errorf("%s%s is not a whole number", flagOf(context, value), match[2])
	}
	if match := noLevel.FindStringSubmatch(err.Error()); match != nil {
		options := map[string][]string{"level": promslog.LevelFlagOptions, "format": promslog.FormatFlagOptions}[match[1]]
		return fmt.Errorf("--log.%s: %q is not one of %s%s", match[1], match[2], strings.Join(options, ", "), text.DidYouMean(match[2], options))
	}
	if match := missing.FindStringSubmatch(err.Error()); match != nil {
		return fmt.Errorf("%s needs a %s", command, strings.ToUpper(match[1]))
	}
	return err
}

// noWord says what an argument could have been that no command takes; serve is said when
// that command was named.
func (f *Flags) noWord(word, command string, serve bool) error {
	switch {
	case command == "run":
		return fmt.Errorf("%q is an argument, and run takes only flags; name models with --model", word)
	case command != "serve" || serve:
		return fmt.Errorf("%q is one argument too many for %s", word, command)
	case slices.Contains(f.commands(), word):
		return fmt.Errorf("%q stands behind a flag of serve, which is done without a command: leave that flag out", word)
	default:
		return f.noCommand(word)
	}
}

func (f *Flags) noCommand(word string) error {
	return fmt.Errorf("unknown command %q%s", word, text.DidYouMean(word, f.commands()))
}

// noFlag says which flag was probably meant, or whose flag it is.
func (f *Flags) noFlag(flag, command string) error {
	name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	var here []string
	model := f.App.Model()
	for _, known := range model.Flags {
		here = append(here, "--"+known.Name)
	}
	for _, c := range model.Commands {
		for _, known := range c.Flags {
			if c.Name == command {
				here = append(here, "--"+known.Name)
			} else if known.Name == name && strings.HasPrefix(flag, "--") {
				return fmt.Errorf("--%s is a flag of %s, not of %s", name, f.commandsWith(name), command)
			}
		}
	}
	question := ""
	if strings.HasPrefix(flag, "--") {
		question = text.DidYouMean("--"+name, here)
	}
	return fmt.Errorf("%s has no flag %s%s", command, flag, question)
}

func (f *Flags) commands() []string {
	var names []string
	for _, c := range f.App.Model().Commands {
		names = append(names, c.Name)
	}
	return names
}

// commandsWith names the commands that have a flag.
func (f *Flags) commandsWith(flag string) string {
	var names []string
	for _, c := range f.App.Model().Commands {
		if slices.ContainsFunc(c.Flags, func(known *kingpin.FlagModel) bool { return known.Name == flag }) {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, " and ")
}

// flagOf names the flag that was given a value, for an error to begin with; "" where that
// is not known.
func flagOf(context *kingpin.ParseContext, value string) string {
	if context == nil {
		return ""
	}
	for _, element := range context.Elements {
		if flag, ok := element.Clause.(*kingpin.FlagClause); ok && element.Value != nil && *element.Value == value {
			return "--" + flag.Model().Name + ": "
		}
	}
	return ""
}

// variableOf names the environment variable that gave a switch this value, for an error to begin
// with: on the command line a switch takes none.
func (f *Flags) variableOf(value string) string {
	for _, c := range f.App.Model().Commands {
		for _, flag := range c.Flags {
			if flag.Envar != "" && flag.IsBoolFlag() && os.Getenv(flag.Envar) == value {
				return flag.Envar + ": "
			}
		}
	}
	return ""
}

// plainNegatives removes the offer of a negation from flags that begin with no- themselves:
// kingpin writes --[no-]no-wait. The columns stay where they are.
type plainNegatives struct{ io.Writer }

var doubleNegative = regexp.MustCompile(`--\[no-\](no-[\w.-]+)`)

func (w plainNegatives) Write(help []byte) (int, error) {
	if _, err := w.Writer.Write(doubleNegative.ReplaceAll(help, []byte("--$1     "))); err != nil {
		return 0, err
	}
	return len(help), nil
}
