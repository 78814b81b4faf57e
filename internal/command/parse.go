package command

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"

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

// What kingpin says about a word that it does not know.
var (
	unknownFlag    = regexp.MustCompile(`^unknown (?:long|short) flag '(.*)'$`)
	unexpectedWord = regexp.MustCompile(`^unexpected (.*)$`)
	notOneOf       = regexp.MustCompile(`^enum value must be one of (.*), got '(.*)'$`)
	notANumber     = regexp.MustCompile(`^strconv\.Parse\w+: parsing ("(?:[^"\\]|\\.)*"): `)
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
	if match := notANumber.FindStringSubmatch(err.Error()); match != nil {
		return fmt.Errorf("%s%s is not a whole number", flagOf(context, strings.Trim(match[1], `"`)), match[1])
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
		return fmt.Errorf("unknown command %q%s", word, text.DidYouMean(word, f.commands()))
	}
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
