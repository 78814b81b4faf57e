package text

import (
	"strings"
	"unicode"
)

// Closest returns the candidate that somebody probably meant by a mistyped word: the one that
// fewest edits lead to (a letter more, less, another, or two swapped), regardless of case.
// Where all are too far away for that, by more than a third of the word, it is the first that
// begins with the word, if that has at least four letters; else "".
func Closest(word string, candidates []string) string {
	best, fewest := "", max(len(word)/3, 1)+1
	for _, candidate := range candidates {
		if n := edits([]rune(strings.ToLower(word)), []rune(strings.ToLower(candidate))); n < fewest {
			best, fewest = candidate, n
		}
	}
	if best == "" && letters(word) >= 4 {
		for _, candidate := range candidates {
			if strings.HasPrefix(strings.ToLower(candidate), strings.ToLower(word)) {
				return candidate
			}
		}
	}
	return best
}

func letters(word string) (n int) {
	for _, r := range word {
		if unicode.IsLetter(r) {
			n++
		}
	}
	return n
}

// DidYouMean writes the closest candidate as a question to be appended to an error:
// `; did you mean "run"?`, or nothing where none is close.
func DidYouMean(word string, candidates []string) string {
	if closest := Closest(word, candidates); closest != "" {
		return `; did you mean "` + closest + `"?`
	}
	return ""
}

// edits counts them, as the optimal string alignment distance does.
func edits(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
