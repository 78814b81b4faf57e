package model_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quant-exporter/quant-exporter/internal/choice"
	"github.com/quant-exporter/quant-exporter/internal/config"
	"github.com/quant-exporter/quant-exporter/internal/gguf"
	"github.com/quant-exporter/quant-exporter/internal/model"
	"github.com/quant-exporter/quant-exporter/internal/test/gguftest"
	"github.com/quant-exporter/quant-exporter/schedule"
)

// discover finds tiny models of these names in a new directory.
func discover(t *testing.T, names ...string) model.Found {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		gguftest.Model(gguftest.Tiny()).Write(t, filepath.Join(dir, name+".gguf"))
	}
	found, err := model.Discover(dir, false, nil)
	require.NoError(t, err)
	return found
}

// pairs shows what an entry decides, as "model: target target".
func pairs(entry model.Resolved) []string {
	var all []string
	for _, model := range entry.Models {
		all = append(all, model.Name+": "+strings.Join(model.Targets, " "))
	}
	return all
}

func entry(name, models, targets string) config.Entry {
	return config.Entry{Entry: schedule.Entry{Name: name}, Models: strings.Fields(models), Targets: strings.Fields(targets), Settings: config.Settings{Threshold: 0.12}}
}

func TestPairsBelongToTheFirstEntryThatNamesThem(t *testing.T) {
	for name, test := range map[string]struct {
		entries   []config.Entry
		want      [][]string
		conflicts []model.Conflict
	}{
		"one entry, sorted": {
			entries: []config.Entry{entry("n", "team/c b a", "Q2_K Q8_0")},
			want:    [][]string{{"a: Q2_K Q8_0", "b: Q2_K Q8_0", "team/c: Q2_K Q8_0"}},
		},
		"patterns that overlap within an entry": {
			entries: []config.Entry{entry("n", "* a a.gguf", "Q2_K")},
			want:    [][]string{{"a: Q2_K", "b: Q2_K", "team/c: Q2_K"}},
		},
		"other targets of the same models": {
			entries: []config.Entry{entry("n", "*", "Q2_K"), entry("m", "a", "Q8_0")},
			want:    [][]string{{"a: Q2_K", "b: Q2_K", "team/c: Q2_K"}, {"a: Q8_0"}},
		},
		"left out by a pattern": {
			entries: []config.Entry{entry("n", "* !team/*", "Q2_K"), entry("m", "!a", "Q8_0")},
			want:    [][]string{{"a: Q2_K", "b: Q2_K"}, {"b: Q8_0", "team/c: Q8_0"}},
		},
		"left out by one entry, and left to another": {
			entries:   []config.Entry{entry("n", "* !a", "Q2_K"), entry("m", "*", "Q2_K")},
			want:      [][]string{{"b: Q2_K", "team/c: Q2_K"}, {"a: Q2_K"}},
			conflicts: []model.Conflict{{Model: "b", Target: "Q2_K", First: "n", Second: "m"}, {Model: "team/c", Target: "Q2_K", First: "n", Second: "m"}},
		},
		"one pair twice": {
			entries:   []config.Entry{entry("n", "a", "Q2_K"), entry("m", "*", "Q2_K Q8_0")},
			want:      [][]string{{"a: Q2_K"}, {"a: Q8_0", "b: Q2_K Q8_0", "team/c: Q2_K Q8_0"}},
			conflicts: []model.Conflict{{Model: "a", Target: "Q2_K", First: "n", Second: "m"}},
		},
		"a model of which nothing is left": {
			entries:   []config.Entry{entry("n", "a", "Q2_K"), entry("m", "a b", "Q2_K")},
			want:      [][]string{{"a: Q2_K"}, {"b: Q2_K"}},
			conflicts: []model.Conflict{{Model: "a", Target: "Q2_K", First: "n", Second: "m"}},
		},
		"three entries: the first has it": {
			entries:   []config.Entry{entry("n", "a", "Q2_K"), entry("m", "a", "Q2_K"), entry("o", "a", "Q2_K")},
			want:      [][]string{{"a: Q2_K"}, nil, nil},
			conflicts: []model.Conflict{{Model: "a", Target: "Q2_K", First: "n", Second: "m"}, {Model: "a", Target: "Q2_K", First: "n", Second: "o"}},
		},
		"names of one format": {
			entries:   []config.Entry{entry("n", "a", "q4_k"), entry("m", "a", "Q4_K_M q3_k_s")},
			want:      [][]string{{"a: Q4_K_M"}, {"a: Q3_K_S"}},
			conflicts: []model.Conflict{{Model: "a", Target: "Q4_K_M", First: "n", Second: "m"}},
		},
		"no entries": {},
	} {
		t.Run(name, func(t *testing.T) {
			p := model.NewPlan(test.entries, discover(t, "a", "b", "team/c"), nil)
			var got [][]string
			for i, entry := range p.Entries {
				assert.Equal(t, test.entries[i], entry.Entry)
				assert.Empty(t, entry.Unresolved)
				got = append(got, pairs(entry))
			}
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.conflicts, p.Conflicts)
		})
	}
}

func TestSourceFormatIsThatOfTheBaseline(t *testing.T) {
	beside := entry("n", "a gone", "Q2_K")
	beside.Baseline = "Q8_0"
	p := model.NewPlan([]config.Entry{beside, entry("m", "a", "Q4_K_M")}, discover(t, "a"), nil)
	assert.Equal(t, "Q8_0", p.Entries[0].Models[0].SourceFormat())
	assert.Empty(t, p.Entries[0].Models[1].SourceFormat(), "nothing can be made of a model that is not there")
	assert.Equal(t, "F16", p.Entries[1].Models[0].SourceFormat())
}

// production adds a quantized file to a folder of models.
func production(t *testing.T, found model.Found) string {
	t.Helper()
	return gguftest.Model(gguftest.TinyQuantized()).Write(t, filepath.Join(found.Dir, "prod.gguf"))
}

func TestTargetOfAFileIsItsFormat(t *testing.T) {
	found := discover(t, "a", "b")
	file := production(t, found)
	found, err := model.Discover(found.Dir, false, nil)
	require.NoError(t, err)
	against := config.Entry{Entry: schedule.Entry{Name: "n"}, Models: []string{"a"}, Against: "prod"}
	p := model.NewPlan([]config.Entry{against, entry("m", "a b", "q4_k Q2_K")}, found, map[string]string{"n": "Q8_0"})
	assert.Equal(t, []string{"a: Q4_K_M"}, pairs(p.Entries[0]))
	assert.Equal(t, []string{"Q4_K_M"}, p.Entries[0].Targets)
	assert.Equal(t, "prod", p.Entries[0].Models[0].Against.Name)
	assert.Equal(t, []model.Conflict{{Model: "a", Target: "Q4_K_M", First: "n", Second: "m"}}, p.Conflicts, "one pair, wherever its copy comes from")
	assert.Equal(t, []string{"a: Q2_K", "b: Q4_K_M Q2_K"}, pairs(p.Entries[1]))
	assert.Nil(t, p.Entries[1].Models[0].Against)

	for last, want := range map[string]string{"Q4_K_M": "a: Q4_K_M", "": "a: UNKNOWN"} {
		for damage, why := range map[string]func() error{
			"cut off": func() error { return os.Truncate(file, 100) },
			"gone":    func() error { return os.Remove(file) },
		} {
			production(t, found)
			require.NoError(t, why())
			again, err := model.Discover(found.Dir, false, nil)
			require.NoError(t, err)
			p = model.NewPlan([]config.Entry{against}, again, map[string]string{"n": last, "m": "Q8_0"})
			assert.Equal(t, []string{want}, pairs(p.Entries[0]), damage)
			require.Error(t, p.Entries[0].Models[0].Against.Err, damage)
			assert.Equal(t, "prod", p.Entries[0].Models[0].Against.Name)
			assert.Empty(t, p.Entries[0].Unresolved)
		}
	}
}

func TestFilesOfOneFormatHaveTheirOwnNames(t *testing.T) {
	found := discover(t, "a", "b")
	file := production(t, found)
	gguftest.Model(gguftest.TinyQuantized()).Write(t, filepath.Join(found.Dir, "m-UD-Q4_K_XL.gguf"))
	again := func() model.Found {
		found, err := model.Discover(found.Dir, false, nil)
		require.NoError(t, err)
		return found
	}
	against := func(name, of, file string) config.Entry {
		return config.Entry{Entry: schedule.Entry{Name: name}, Models: []string{of}, Against: file}
	}
	prod, other := against("n", "a", "prod"), against("m", "a", "m-UD-Q4_K_XL")
	p := model.NewPlan([]config.Entry{prod, other, against("o", "b", "prod"), entry("k", "a b", "Q4_K_M")}, again(), nil)
	assert.Equal(t, []string{"a: prod.gguf"}, pairs(p.Entries[0]))
	assert.Equal(t, []string{"a: m-UD-Q4_K_XL.gguf"}, pairs(p.Entries[1]))
	assert.Equal(t, []string{"b: Q4_K_M"}, pairs(p.Entries[2]), "the file is alone there")
	assert.Equal(t, []string{"a: Q4_K_M"}, pairs(p.Entries[3]), "what is made has the name of its format")
	assert.Equal(t, []string{"prod.gguf"}, p.Entries[0].Targets)
	assert.Equal(t, []model.Conflict{{Model: "b", Target: "Q4_K_M", First: "o", Second: "k"}}, p.Conflicts)

	turned := model.NewPlan([]config.Entry{other, prod}, again(), nil)
	assert.Equal(t, []string{"a: prod.gguf"}, pairs(turned.Entries[1]), "the order of the entries does not matter")
	same := model.NewPlan([]config.Entry{prod, other, against("p", "a", "prod.gguf")}, again(), nil)
	assert.Equal(t, []model.Conflict{{Model: "a", Target: "prod.gguf", First: "n", Second: "p"}}, same.Conflicts, "one file is one pair")
	assert.Equal(t, []string{"a: Q4_K_M"}, pairs(model.NewPlan([]config.Entry{other}, again(), nil).Entries[0]))

	require.NoError(t, os.Remove(file))
	gone := model.NewPlan([]config.Entry{prod, other}, again(), map[string]string{"n": "Q4_K_M", "m": "Q4_K_M"})
	assert.Equal(t, []string{"a: prod.gguf"}, pairs(gone.Entries[0]), "what it was tells which one it is")
	assert.Equal(t, []string{"a: m-UD-Q4_K_XL.gguf"}, pairs(gone.Entries[1]))
}

func TestOneEntryChoosesAFormatOfAModel(t *testing.T) {
	entries := []config.Entry{entry("n", "a b", "Q2_K Q8_0"), entry("m", "a", "Q4_K_M"), entry("o", "*", "Q6_K"), entry("p", "a", "Q2_K")}
	entries[0].Choose, entries[2].Choose, entries[3].Choose = choice.Smallest, choice.Fastest, choice.Fastest
	p := model.NewPlan(entries, discover(t, "a", "b", "c"), nil)
	rules := map[string]choice.Rule{}
	for _, resolved := range p.Entries {
		for _, model := range resolved.Models {
			rules[resolved.Name+" "+model.Name] = model.Choose
		}
	}
	assert.Equal(t, map[string]choice.Rule{"n a": "smallest", "n b": "smallest", "m a": "", "o a": "", "o b": "", "o c": "fastest"}, rules)
	assert.Equal(t, []model.Conflict{
		{Model: "a", First: "n", Second: "o"},
		{Model: "b", First: "n", Second: "o"},
		{Model: "a", Target: "Q2_K", First: "n", Second: "p"}, // and nothing is left to choose of
	}, p.Conflicts)
	assert.ErrorContains(t, p.Conflicts[0], `the entries "n" and "o" both choose a format of "a"`)
}

func TestConflictSaysWhatToDo(t *testing.T) {
	assert.EqualError(t, model.Conflict{Model: "a", Target: "Q2_K", First: "n", Second: "m"},
		`the entries "n" and "m" both decide Q2_K of "a", and would overwrite each other's figures: let one of them name other models or targets`)
}

func TestAModelKeepsItsNameWhenItIsGone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "a.gguf")
	for folder, want := range map[string]string{dir: "sub/a", "": "a"} {
		gguftest.Model(gguftest.Tiny()).Write(t, file)
		for _, there := range []bool{true, false} {
			if !there {
				require.NoError(t, os.Remove(file))
			}
			found, err := model.Discover(folder, false, nil)
			require.NoError(t, err)
			p := model.NewPlan([]config.Entry{entry("n", file, "Q2_K")}, found, nil)
			require.Len(t, p.Entries[0].Models, 1)
			assert.Equal(t, want, p.Entries[0].Models[0].Name)
			assert.Equal(t, there, p.Entries[0].Models[0].Err == nil)
		}
	}
}

// A glob that fits nothing may fit something tomorrow; a name that is gone was counted
// on, and so its cycles fail.
func TestWhatIsNotThere(t *testing.T) {
	p := model.NewPlan([]config.Entry{entry("n", "x* a gone.gguf", "Q2_K")}, discover(t, "a"), nil)
	n := p.Entries[0]
	assert.Equal(t, []string{"a: Q2_K", "gone: Q2_K"}, pairs(n))

	require.NoError(t, n.Models[0].Err)
	assert.NotEmpty(t, n.Models[0].SourceFormat())

	require.ErrorContains(t, n.Models[1].Err, `"gone.gguf"`)
	assert.Empty(t, n.Models[1].SourceFormat())

	require.Len(t, n.Unresolved, 1)
	require.ErrorContains(t, n.Unresolved[0], `entry "n": `)
	require.ErrorContains(t, n.Unresolved[0], `"x*"`)
}

// A model that cannot be read has an owner like any other: its failures are counted
// under its name.
func TestUnreadableModelIsPlanned(t *testing.T) {
	found := discover(t, "a", "b")
	require.NoError(t, os.Truncate(found.Models[0].Path, 40))
	found, err := model.Discover(found.Dir, false, nil)
	require.NoError(t, err)
	p := model.NewPlan([]config.Entry{entry("n", "a b", "Q2_K")}, found, nil)
	assert.Equal(t, []string{"a: Q2_K", "b: Q2_K"}, pairs(p.Entries[0]))
	require.Error(t, p.Entries[0].Models[0].Err)
	assert.NoError(t, p.Entries[0].Models[1].Err)
}

// Without a model directory models go by their base names, as long as these differ, even
// across two patterns or two entries.
func TestModelsOfOneNameStayApart(t *testing.T) {
	a, b := discover(t, "x", "y"), discover(t, "x")
	path := func(found model.Found, name string) string { return filepath.Join(found.Dir, name) }
	for name, entries := range map[string][]config.Entry{
		"in one entry":   {entry("n", path(a, "x.gguf")+" "+path(b, "x.gguf")+" "+path(a, "y.gguf"), "Q2_K")},
		"in two entries": {entry("n", path(a, "x.gguf")+" "+path(a, "y.gguf"), "Q2_K"), entry("m", path(b, "x.gguf"), "Q2_K")},
	} {
		t.Run(name, func(t *testing.T) {
			p := model.NewPlan(entries, model.Found{}, nil)
			assert.Empty(t, p.Conflicts)
			var got []string
			for _, entry := range p.Entries {
				got = append(got, pairs(entry)...)
			}
			assert.ElementsMatch(t, []string{path(a, "x") + ": Q2_K", path(b, "x") + ": Q2_K", "y: Q2_K"}, got)
		})
	}
}

// Whatever the entries name, every pair that one of them names has one owner, the first
// of them, and every other one gets one conflict for it.
func TestEveryPairHasOneOwner(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	found := discover(t, "a", "b", "c", "d")
	names := map[string]string{"[ab]": "ab", "[bc]": "bc", "d": "d", "d*": "d", "[acd]": "acd", "e*": ""}
	patterns := slices.Sorted(maps.Keys(names))
	some := func(from []string) []string {
		var all []string
		for _, i := range random.Perm(len(from))[:1+random.IntN(3)] {
			all = append(all, from[i])
		}
		return all
	}
	for range 500 {
		var entries []config.Entry
		for _, name := range []string{"first", "second", "third", "fourth"} {
			targets := []string{"Q2_K", []string{"Q4_K", "Q4_K_M", "q4_k_m"}[random.IntN(3)], "Q8_0"}
			entries = append(entries, entry(name, strings.Join(some(patterns), " "), strings.Join(some(targets), " ")))
		}
		p := model.NewPlan(entries, found, nil)

		owners := map[[2]string]string{}
		var conflicts []model.Conflict
		for i, entry := range entries {
			named := map[[2]string]bool{}
			for _, pattern := range entry.Models {
				for _, letter := range names[pattern] {
					for _, target := range entry.Targets {
						named[[2]string{string(letter), gguf.Canonical(target)}] = true
					}
				}
			}
			owned := map[[2]string]bool{}
			for _, model := range p.Entries[i].Models {
				for _, target := range model.Targets {
					pair := [2]string{model.Name, target}
					require.False(t, owned[pair], "twice in an entry")
					owned[pair] = true
				}
			}
			for pair := range named {
				owner, taken := owners[pair]
				if !taken {
					owners[pair] = entry.Name
				} else {
					conflicts = append(conflicts, model.Conflict{Model: pair[0], Target: pair[1], First: owner, Second: entry.Name})
				}
				require.Equal(t, !taken, owned[pair], "%s of %v", pair, entry)
				delete(owned, pair)
			}
			require.Empty(t, owned, "what it does not name")
			require.True(t, slices.IsSortedFunc(p.Entries[i].Models, func(a, b model.Planned) int { return strings.Compare(a.Name, b.Name) }))
		}
		require.ElementsMatch(t, conflicts, p.Conflicts)
	}
}

func TestAnEntryMayAllowQuantizedModels(t *testing.T) {
	m := newModels(t)
	m.model("f16.gguf")
	gguftest.Model(gguftest.TinyQuantized()).Write(t, m.path("q8.gguf"))
	strict, allowing := entry("strict", "*", "Q4_K_M"), entry("allowing", "*", "Q2_K")
	allowing.AllowRequantize = true
	p := model.NewPlan([]config.Entry{strict, allowing}, m.discover(), nil)
	var got []string
	for _, e := range p.Entries {
		for _, planned := range e.Models {
			got = append(got, e.Name+" "+planned.Name)
		}
	}
	assert.Equal(t, []string{"strict f16", "allowing f16", "allowing q8"}, got)
	assert.Empty(t, p.PassedOver, "an entry decides it")
}
