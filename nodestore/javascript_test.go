package nodestore

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"
)

// goldenDates are what Node makes of texts. A list has a time for each zone.
type goldenDates struct {
	Zones []string
	Texts map[string]any
}

// notRead are the texts of which V8 makes a date by rules of its own, which
// ECMAScript does not have.
var notRead = []string{
	"7", "-000000-01-02", "2030-1-2", "2030-002", " 2030-01-02", "2030-01-02 ", "2030/01/02", "01/02/2030", "1/2/2030 3:04 PM", "Jan 2, 2030", "2 January 2030",
	"Wed Jan 02 2030 03:04:05", "Wed Jan 02 2030", "Wed Jan  2 03:04:05 2030", "Wednesday, 02-Jan-30 03:04:05 GMT", "٢٠٣٠-01-02", "Sun Mar 10 2030 02:30:00",
	"12030-01-01", "002030-01-02", "+2030-01-02", "+02030-01-02", "-2030-01-02", "+0020300-01-02", "2030Z", "2030-01Z", "2030-01-02Z",
}

func TestDatesAreReadAsNodeReadsThem(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/dates.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden goldenDates
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Texts) < 100 {
		t.Fatalf("%d texts", len(golden.Texts))
	}
	for i, zone := range golden.Zones {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range golden.Texts {
			if list, ok := want.([]any); ok {
				want = list[i]
			}
			if slices.Contains(notRead, text) {
				want = nil
			}
			got, ok := parseDate(text, location)
			if ms, isDate := want.(float64); ok != isDate || ok && got.UnixMilli() != int64(ms) {
				t.Errorf("in %s %q is %v, %v; want %v", zone, text, got, ok, want)
			}
		}
	}
}

// Go reads whatever it writes itself.
func TestADateThatGoWritesIsRead(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{lastDate, time.UnixMilli(-longestDate), time.UnixMilli(0), frozen, time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		got, ok := parseDate(isoTime(at.UTC()), time.UTC)
		if !ok || !got.Equal(at) {
			t.Errorf("%s is read as %v, %v", isoTime(at.UTC()), got, ok)
		}
		if at.Year() < 0 { // of which toUTCString is not read in Node either
			continue
		}
		if got, ok := parseDate(httpTime(at.UTC()), time.UTC); !ok || !got.Equal(at.Truncate(time.Second)) {
			t.Errorf("%s is read as %v, %v", httpTime(at.UTC()), got, ok)
		}
	}
}
