package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/quant-exporter/quant-exporter/internal/event"
	"github.com/quant-exporter/quant-exporter/internal/text"
)

// Publications writes what became of publishing the copies of one cycle, for people to
// read, and ends with an empty line. It does nothing for none.
func Publications(w io.Writer, all []event.Publication) error {
	if len(all) == 0 {
		return nil
	}
	var out strings.Builder
	for _, p := range all {
		if p.Error != nil {
			fmt.Fprintf(&out, "%s is not published: %s\n", text.Name(p.TargetFormat), strings.ReplaceAll(text.Text(*p.Error), "\n", "\n  "))
		} else {
			fmt.Fprintf(&out, "%s is published: %s\n", text.Name(p.TargetFormat), text.Name(*p.Stable))
		}
	}
	out.WriteString("\n")
	_, err := io.WriteString(w, out.String())
	return err
}
