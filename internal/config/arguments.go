package config

import (
	"regexp"
	"slices"
	"strings"
)

// secretOption is what options are called whose value must not be shown: --hf-token,
// --api-key, and llama.cpp's short -hft. --token-embedding-type is none of them.
var secretOption = regexp.MustCompile(`(?i)^-+(hft|([a-z0-9_-]+[-_])?(token|apikey|key|secret|pass|passwd|password|passphrase|pwd|creds?|credentials?|auth|bearer|jwt|cookie|session|sid|dsn|sas|t?otp|webhook|conn(ection)?[-_]?str(ing)?|pat))$`)

// RedactArgs returns the arguments of a tool as others may see them: values of options such as
// --hf-token, behind an equals sign or as the next argument, and credentials in URLs are
// replaced by [Secret].
func RedactArgs(args []string) []string {
	shown := slices.Clone(args)
	for i, arg := range shown {
		name, value, joined := strings.Cut(arg, "=")
		switch {
		case joined && secretOption.MatchString(name) && value != "":
			shown[i] = name + "=" + Secret
		case i > 0 && secretOption.MatchString(args[i-1]) && arg != "":
			shown[i] = Secret
		default:
			shown[i] = RedactURL(arg)
		}
	}
	return shown
}

// HideArgs replaces, in a text that a tool printed, what RedactArgs hides in its arguments.
func HideArgs(text string, args []string) string {
	for i, shown := range RedactArgs(args) {
		value := args[i]
		if shown == value {
			continue
		}
		if name, behind, joined := strings.Cut(value, "="); joined && shown == name+"="+Secret {
			value, shown = behind, Secret
		}
		text = strings.ReplaceAll(text, value, shown)
	}
	return text
}
