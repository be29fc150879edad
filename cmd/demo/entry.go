package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// entry is a line of a node's log, as zap writes it.
type entry struct {
	level, message string
	fields         map[string]string // the others, as text
	text           string            // all of it, for people
	raw            string
}

func parseEntry(line []byte) entry {
	e := entry{raw: string(line), fields: map[string]string{}}
	var all map[string]any
	if err := json.Unmarshal(line, &all); err != nil {
		e.message, e.text = e.raw, e.raw // printed by something else
		return e
	}
	for name, value := range all {
		text := fmt.Sprint(value)
		if some, ok := value.(map[string]any); ok {
			if inner, err := json.Marshal(some); err == nil {
				text = string(inner)
			}
		}
		switch name {
		case "level":
			e.level = text
		case "msg":
			e.message = text
		case "logger", "table": // the same in every line
		default:
			e.fields[name] = text
		}
	}
	var b strings.Builder
	b.WriteString(e.message)
	for _, name := range slices.Sorted(maps.Keys(e.fields)) {
		value := e.fields[name]
		if strings.ContainsAny(value, " \n\"") && !strings.HasPrefix(value, "{") {
			value = fmt.Sprintf("%q", value)
		}
		fmt.Fprintf(&b, "  %s=%s", name, value)
	}
	e.text = b.String()
	return e
}
