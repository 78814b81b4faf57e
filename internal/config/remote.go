package config

import (
	"fmt"
	"slices"
	"strings"
)

// networked are the options by which llama.cpp's tools use the network, as far as they are not
// refused everywhere.
var networked = []string{
	"--rpc", "-rpc", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft", "--hf-token", "-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf", "-hfv", "--hf-repo-v",
	"-mu", "--model-url", "--mmproj-url", "-mmu", "-dr", "--docker-repo",
}

// divided are the options whose values a slash divides: devices, and the shares of these.
var divided = []string{"-ts", "--tensor-split", "-dev", "--device"}

// CheckRemoteArgs refuses arguments of llama-bench or llama-perplexity that name a file, or a host:
// the workers of a fleet take none of others, and entries with on have none. Values that a slash
// divides may have some, if they are no paths.
func CheckRemoteArgs(args []string) error {
	option := ""
	return checkRemote(args, func(arg string) string {
		name, value, assigned := strings.Cut(arg, "=")
		switch {
		case slices.Contains(divided, option):
			value = arg
		case !assigned || !slices.Contains(divided, name):
			value = ""
		}
		option = arg
		parts := strings.Split(strings.ReplaceAll(value, ",", "/"), "/")
		if slices.ContainsFunc(parts, func(part string) bool { return part == "" || part[0] == '.' }) {
			return arg
		}
		return strings.ReplaceAll(arg, "/", ",")
	})
}

// CheckRemoteQuantizeArgs does the same for llama-quantize, be they an engine's or a recipe's. The
// value of --tensor-type is an expression for the names of tensors, and may have backslashes.
func CheckRemoteQuantizeArgs(args []string) error {
	option := ""
	return checkRemote(args, func(arg string) string {
		names := option == "--tensor-type"
		option = arg
		if names {
			return strings.ReplaceAll(arg, `\`, "")
		}
		return arg
	})
}

// checkRemote refuses what names a file, or a host. plain returns an argument, in their order,
// without the signs that mean something else in it.
func checkRemote(args []string, plain func(arg string) string) error {
	shown := RedactArgs(args)
	for i, arg := range args {
		arg = plain(arg)
		name, _, _ := strings.Cut(strings.ReplaceAll(arg, "_", "-"), "=")
		if slices.Contains(networked, name) {
			return fmt.Errorf("has the option %s, which uses the network: the workers of a fleet refuse it", name)
		}
		if strings.ContainsAny(arg, `/\`) || strings.HasPrefix(arg, "~") {
			return fmt.Errorf("has the argument %q, which may name a file: the workers of a fleet open only files of their own host", shown[i])
		}
	}
	return nil
}
