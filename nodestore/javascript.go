package nodestore

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// This file reads values as JavaScript does, for all that a session's document
// says about its cookie.

// truthy reports whether JavaScript takes a value for true. What is not is no
// value for the packages: undefined, null, false, 0 and the empty text.
func truthy(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "false", `""`:
		return false
	}
	number, isNumber := numberOf(raw)
	return !isNumber || number != 0
}

// nullish reports whether a value is null or undefined.
func nullish(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// numberOf returns a number of JSON; one that is too large is infinite.
func numberOf(raw json.RawMessage) (number float64, isNumber bool) {
	if len(raw) == 0 || raw[0] != '-' && !isDigit(raw[0]) {
		return 0, false
	}
	number, _ = strconv.ParseFloat(string(raw), 64)
	return number, true
}

// longestDate is how far from 1970 a Date can be, in milliseconds.
const longestDate = 8.64e15

// lastDate is the last of them.
var lastDate = time.UnixMilli(longestDate).UTC()

// dateOfNumber is new Date of a number.
func dateOfNumber(ms float64) (time.Time, bool) {
	if ms = math.Trunc(ms); math.Abs(ms) > longestDate {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(ms)).UTC(), true
}

// dateOf is new Date of a value, where that is a date at all. A date and time
// without an offset is one of that location.
func dateOf(raw json.RawMessage, location *time.Location) (time.Time, bool) {
	if number, is := numberOf(raw); is {
		return dateOfNumber(number)
	}
	var text string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
		return parseDate(text, location)
	}
	return time.Time{}, false
}

// laterBy is new Date of so many milliseconds from now.
func laterBy(now time.Time, ms float64) (time.Time, bool) {
	return dateOfNumber(float64(now.UnixMilli()) + ms)
}

var (
	// ECMAScript's date-time string format, and what V8 takes beside it: lower
	// case, a blank for the T, an offset without colon, any number of digits in a
	// fraction.
	isoDate = regexp.MustCompile(`^(\d{4}|[+-]\d{6})(?:-(\d\d)(?:-(\d\d))?)?(?:(?:[Tt]| )(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(?: ?([Zz]|[+-]\d\d:?\d\d))?)?$`)
	// Date.toUTCString and Date.toString.
	utcDate = regexp.MustCompile(`^(?:[A-Z][a-z]{2}, )?(\d\d)[ -]([A-Z][a-z]{2})[ -](\d{4,6}) (\d\d):(\d\d):(\d\d) (?:GMT|UTC)$`)
	ownDate = regexp.MustCompile(`^[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d\d) (\d{4,6}) (\d\d):(\d\d):(\d\d) GMT([+-]\d{4})(?: \(.*\))?$`)
)

// parseDate reads a date as JavaScript's Date does: in ECMAScript's format and
// in the forms that Date itself prints.
func parseDate(text string, location *time.Location) (time.Time, bool) {
	if m := isoDate.FindStringSubmatch(text); m != nil && m[1] != "-000000" {
		zone := m[8]
		if m[4] == "" { // a date without a time is one of UTC
			zone = "Z"
		}
		if strings.ContainsAny(text, "Tt") && strings.Contains(text, " ") {
			return time.Time{}, false
		}
		return dateFrom([6]string{m[1], m[2], m[3], m[4], m[5], m[6]}, m[7], zone, location)
	}
	if m := utcDate.FindStringSubmatch(text); m != nil {
		return dateFrom([6]string{m[3], monthNumber(m[2]), m[1], m[4], m[5], m[6]}, "", "Z", location)
	}
	if m := ownDate.FindStringSubmatch(text); m != nil {
		return dateFrom([6]string{m[3], monthNumber(m[1]), m[2], m[4], m[5], m[6]}, "", m[7], location)
	}
	return time.Time{}, false
}

// monthNumber is 0 for a name that is none.
func monthNumber(name string) string {
	at := strings.Index("JanFebMarAprMayJunJulAugSepOctNovDec", name)
	if at < 0 || at%3 != 0 {
		return "0"
	}
	return strconv.Itoa(at/3 + 1)
}

// dateFrom makes a date of year, month, day, hour, minute and second. Where the
// month is shorter, its last days are the first of the next one, as in V8.
func dateFrom(fields [6]string, fraction, zone string, location *time.Location) (time.Time, bool) {
	n := [6]int{0, 1, 1, 0, 0, 0}
	for i, field := range fields {
		if field != "" {
			n[i], _ = strconv.Atoi(field) // they are digits
		}
	}
	ms, _ := strconv.Atoi((fraction + "000")[:3])
	endOfDay := n[3] == 24 && n[4] == 0 && n[5] == 0 && ms == 0
	if n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 31 || n[3] > 23 && !endOfDay || n[4] > 59 || n[5] > 59 {
		return time.Time{}, false
	}
	at := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], ms*int(time.Millisecond), time.UTC)
	switch {
	case zone == "":
		at = inLocation(at, location)
	case zone != "Z" && zone != "z":
		hours, _ := strconv.Atoi(zone[1:3])
		minutes, _ := strconv.Atoi(zone[len(zone)-2:])
		if hours > 23 || minutes > 59 {
			return time.Time{}, false
		}
		offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
		if zone[0] == '+' {
			offset = -offset
		}
		at = at.Add(offset)
	}
	return dateOfNumber(float64(at.UnixMilli()))
}

// inLocation is the time at which a clock there shows what at shows in UTC. Of two
// such times it is the earlier one. A time that the clock leaves out is counted by
// the offset before, as in JavaScript.
func inLocation(at time.Time, location *time.Location) time.Time {
	_, before := at.Add(-24 * time.Hour).In(location).Zone()
	_, after := at.Add(24 * time.Hour).In(location).Zone()
	for _, offset := range []int{before, after} {
		t := at.Add(-time.Duration(offset) * time.Second)
		if _, there := t.In(location).Zone(); there == offset {
			return t
		}
	}
	return at.Add(-time.Duration(before) * time.Second)
}
