package text

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestClosest(t *testing.T) {
	commands := []string{"serve", "run", "calibrate", "events", "export", "backup"}
	for word, want := range map[string]string{
		"rnu": "run", "runn": "run", "ru": "run", "RUN": "run", "event": "events", "calibarte": "calibrate",
		"exports": "export", "bakcup": "backup", "": "", "x": "", "start": "", "größe": "",
	} {
		assert.Equal(t, want, Closest(word, commands), word)
	}
	flags := []string{"--config.file", "--config.check", "--storage.path", "--log.level"}
	for word, want := range map[string]string{
		"--config": "--config.file", "--CONF": "--config.file", "--storage": "--storage.path", "--config.check": "--config.check", "--con": "", "--log": "",
	} {
		assert.Equal(t, want, Closest(word, flags), word)
	}
	assert.Empty(t, Closest("run", nil))
	assert.Equal(t, `; did you mean "run"?`, DidYouMean("rnu", commands))
	assert.Empty(t, DidYouMean("start", commands))
}

func TestEdits(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"abc", "abc"}: 0, {"abc", "acb"}: 1, {"abcd", "badc"}: 2, {"kitten", "sitting"}: 3,
	} {
		assert.Equal(t, want, edits([]rune(pair[0]), []rune(pair[1])), pair)
		assert.Equal(t, want, edits([]rune(pair[1]), []rune(pair[0])), pair)
	}
}
