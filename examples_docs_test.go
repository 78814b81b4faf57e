package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

func TestExamplesUseFlagsThatExist(t *testing.T) {
	var known []string
	for _, flag := range documentedFlags() {
		known = append(known, flag.name)
	}
	// Ours have a dot or a hyphen, others' in these files have none.
	ours := regexp.MustCompile(`(?m)(?:^|[\s="\[])(--[a-z]+[.-][a-z.-]*[a-z])\b`)
	used := 0
	for _, folder := range []string{"systemd", "docker", "kubernetes"} {
		err := filepath.WalkDir(filepath.Join("examples", folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range ours.FindAllStringSubmatch(string(text), -1) {
				used++
				assert.Contains(t, known, match[1], path)
			}
			return err
		})
		require.NoError(t, err)
	}
	assert.Positive(t, used)
}

func TestReadmeHasARunbookForEveryAlert(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("examples", "alerts.yml"))
	require.NoError(t, err)
	var content struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &content))
	severities := map[string]string{}
	for _, row := range table(t, "alert | severity") {
		name, _, _ := strings.Cut(strings.TrimPrefix(row[0], "["), "]")
		severities[name] = row[1]
	}
	found := map[string]string{}
	for _, group := range content.Groups {
		for _, rule := range group.Rules {
			found[rule.Alert] = rule.Labels["severity"]
			_, section, ok := strings.Cut(pages(t), "\n### "+rule.Alert+"\n")
			require.True(t, ok, "the documentation has no section %s", rule.Alert)
			section, _, _ = strings.Cut(section, "\n## ")
			section, _, _ = strings.Cut(section, "\n### ")
			for _, part := range []string{"*What it means.*", "*What to look at.*", "*What to do.*"} {
				assert.Contains(t, section, part, rule.Alert)
			}
			assert.True(t, strings.HasSuffix(rule.Annotations["runbook_url"], "#"+strings.ToLower(rule.Alert)), rule.Alert)
		}
	}
	assert.Equal(t, found, severities, "the documentation's table of alerts")
}
