package sqlmigrate

import (
	"fmt"
	"slices"
	"strings"
)

// MissingColumns says which columns a table lacks, or has with another type.
// Each is its name and type, with a blank between.
func MissingColumns(want, have []string) (diffs []string) {
	for _, column := range want {
		if slices.Contains(have, column) {
			continue
		}
		name, kind, _ := strings.Cut(column, " ")
		diff := "there is no column " + name
		for _, c := range have {
			if other, ok := strings.CutPrefix(c, name+" "); ok {
				diff = fmt.Sprintf("column %s is %s, not %s", name, other, kind)
			}
		}
		diffs = append(diffs, diff)
	}
	return diffs
}
