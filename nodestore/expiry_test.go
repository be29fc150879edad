package nodestore

import (
	"errors"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// offline is a store that is never asked for a row.
func offline(l Layout) *Store {
	return &Store{
		layout: l,
		opts:   Options{}.withDefaults(l),
		table:  table{latest: lastDate},
		now:    newTestClock(frozen).now,
	}
}

func TestALifetimeIsLookedForInThePackagesOrder(t *testing.T) {
	t.Parallel()
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	clock := frozen.UnixMilli()
	const dayMS = 86400000
	pg, css, ems := ConnectPGSimple(), ConnectSessionSequelize(Postgres), ExpressMySQLSession()
	kgs, sqlite := KoaGenericSessionSequelize(MySQL), ConnectSQLite()
	untold := sqlite
	untold.TTL = nil // disableTTL
	for _, tt := range []struct {
		layout Layout
		data   string
		want   time.Time
	}{
		{css, `{}`, at(clock + dayMS)},
		{css, `{"cookie":null}`, at(clock + dayMS)},
		{css, `{"cookie":7}`, at(clock + dayMS)},
		{css, `{"cookie":{"expires":null}}`, at(clock + dayMS)},
		{css, `{"cookie":{"expires":false}}`, at(clock + dayMS)},
		{css, `{"cookie":{"expires":""}}`, at(clock + dayMS)},
		{css, `{"cookie":{"expires":0}}`, at(clock + dayMS)},
		{css, `{"cookie":{"expires":-0.0e5}}`, at(clock + dayMS)},
		{css, `{"cookie":{"expires":-1}}`, at(0)},
		{css, `{"cookie":{"expires":"2030-01-02"}}`, at(1893542400000)},
		{kgs, `{"cookie":{"maxAge":false,"expires":""}}`, at(1893542400000)},
		{kgs, `{"cookie":{"maxAge":""}}`, at(1893542400000)},
		{css, `{"cookie":{"maxAge":1000}}`, at(clock + dayMS)},
		{css, `{"Cookie":{"expires":"2030-01-02T03:04:05.678Z"}}`, at(clock + dayMS)},
		{css, `{"cookie":{"Expires":"2030-01-02T03:04:05.678Z"}}`, at(clock + dayMS)},
		{css, `{"cookie":{"expires":"2030-01-02T03:04:05.678Z"}}`, at(1893553445678)},
		{css, `{"cookie":{},"cookie":{"expires":"2030-01-02T03:04:05.678Z"}}`, at(1893553445678)}, // the last counts, as in JavaScript
		{css, `{"cookie":{"expires":"2030-01-02T05:04:05.678+02:00"}}`, at(1893553445678)},
		{css, `{"cookie":{"expires":"Wed, 02 Jan 2030 03:04:05 GMT"}}`, at(1893553445000)},
		{css, `{"cookie":{"expires":1893553445678}}`, at(1893553445678)},
		{pg, `{"cookie":{"expires":1893553445678}}`, at(1893553446000)},
		{pg, `{"cookie":{"expires":"2030-01-02T03:04:05.000Z"}}`, at(1893553445000)},
		{ems, `{"cookie":{"expires":"2030-01-02T03:04:05.499Z"}}`, at(1893553445000)},
		{ems, `{"cookie":{"expires":"2030-01-02T03:04:05.500Z"}}`, at(1893553446000)},
		{ems, `{"cookie":{"maxAge":1000}}`, at(1893542400000)},
		{kgs, `{"cookie":{"maxAge":1000}}`, at(1893456001000)},
		{kgs, `{"cookie":{"maxAge":0}}`, at(1893542400000)},
		{kgs, `{"cookie":{"maxAge":null}}`, at(1893542400000)},
		{kgs, `{"cookie":{"maxAge":1000,"expires":"2030-01-02T03:04:05.678Z"}}`, at(1893553445000)},
		{untold, `{"cookie":{"maxAge":1500,"expires":"2030-01-02T03:04:05.678Z"}}`, at(clock + dayMS)},
		{sqlite, `{"cookie":{"maxAge":1500}}`, at(clock + 2000)},
		{sqlite, `{"cookie":{"maxAge":1500.9}}`, at(clock + 2000)},
		{sqlite, `{"cookie":{"maxAge":-1}}`, at(clock)},
		{sqlite, `{"cookie":{"expires":"2030-01-02T03:04:05.678Z","maxAge":1500}}`, at(1893553446123)},
	} {
		if got, err := offline(tt.layout).Expiry([]byte(tt.data)); err != nil || !got.Equal(tt.want) {
			t.Errorf("%s: %s: %v (%v), want %v", tt.layout.Package, tt.data, got, err, tt.want)
		}
	}
	for _, data := range []string{
		`{"cookie":{"expires":true}}`, `{"cookie":{"expires":"tomorrow"}}`,
		`{"cookie":{"expires":[]}}`, `{"cookie":{"expires":8.7e15}}`, `[]`, `null`, `"x"`, ``, `{`,
	} {
		if got, err := offline(css).Expiry([]byte(data)); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%s: %v (%v), want ErrInvalid", data, got, err)
		}
	}
	if got, err := offline(kgs).Expiry([]byte(`{"cookie":{"maxAge":"1000"}}`)); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("a text as maxAge: %v (%v), want ErrInvalid", got, err)
	}
}

func FuzzExpiry(f *testing.F) {
	for _, in := range readGolden(f).Inputs {
		f.Add([]byte(in.JSON))
	}
	f.Add([]byte(`{"cookie":{"maxAge":-1e300,"expires":-1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, l := range []Layout{ConnectPGSimple(), KoaGenericSessionSequelize(SQLite), ConnectSQLite()} {
			s := offline(l)
			got, err := s.Expiry(data)
			switch {
			case err == nil && (got.Before(time.UnixMilli(0)) || got.After(s.table.latest)):
				t.Errorf("%s: %v", l.Package, got)
			case err != nil && !errors.Is(err, session.ErrInvalid) && !errors.Is(err, session.ErrDeadline):
				t.Errorf("%s: %v", l.Package, err)
			}
		}
	})
}

func TestField(t *testing.T) {
	t.Parallel()
	const data = `{"passport":{"user":"106"},"n":1.50,"yes":true,"none":null,"list":[1, 2]}`
	for _, tt := range []struct {
		path []string
		want any
	}{
		{[]string{"passport", "user"}, "106"},
		{[]string{"passport"}, `{"user":"106"}`},
		{[]string{"n"}, "1.50"},
		{[]string{"yes"}, "true"},
		{[]string{"none"}, nil},
		{[]string{"list"}, "[1, 2]"},
		{[]string{"missing"}, nil},
		{[]string{"n", "below"}, nil},
		{[]string{"passport", "user", "below"}, nil},
	} {
		if got, err := Field(tt.path...)([]byte(data)); err != nil || got != tt.want {
			t.Errorf("%q: %v (%v), want %v", tt.path, got, err, tt.want)
		}
	}
}
