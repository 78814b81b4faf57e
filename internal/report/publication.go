package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/event"
)

// Publications writes what became of publishing the copies of one cycle, for people to
// read, and ends with an empty line. It does nothing for none.
func Publications(w io.Writer, all []event.Publication) error {
	if len(all) == 0 {
		return nil
	}
	var text strings.Builder
	for _, p := range all {
		if p.Error != nil {
			fmt.Fprintf(&text, "%s is not published: %s\n", Name(p.TargetFormat), strings.ReplaceAll(Text(*p.Error), "\n", "\n  "))
		} else {
			fmt.Fprintf(&text, "%s is published: %s\n", Name(p.TargetFormat), Name(*p.Stable))
		}
	}
	text.WriteString("\n")
	_, err := io.WriteString(w, text.String())
	return err
}
