package main

import (
	"bytes"
	"cmp"
	"io"
	"regexp"
	"slices"
	"time"
)

// packageTime is how long the tests of a package took.
type packageTime struct {
	name string
	took time.Duration
}

var packageLine = regexp.MustCompile(`^(?:ok  |FAIL)\t(\S+)\t([0-9.]+s)`)

// stopwatch passes on what go test prints and keeps the times in it.
type stopwatch struct {
	out   io.Writer
	line  []byte // that is not complete yet
	found []packageTime
}

func (s *stopwatch) Write(p []byte) (int, error) {
	s.line = append(s.line, p...)
	for {
		line, rest, whole := bytes.Cut(s.line, []byte("\n"))
		if !whole {
			break
		}
		s.line = rest
		if parts := packageLine.FindSubmatch(line); parts != nil {
			if took, err := time.ParseDuration(string(parts[2])); err == nil {
				s.found = append(s.found, packageTime{string(parts[1]), took})
			}
		}
	}
	return s.out.Write(p)
}

// slowestFirst leaves out what took no time.
func slowestFirst(all []packageTime) []packageTime {
	all = slices.DeleteFunc(slices.Clone(all), func(p packageTime) bool { return p.took < time.Second })
	slices.SortStableFunc(all, func(a, b packageTime) int { return cmp.Compare(b.took, a.took) })
	return all
}
