package nodestore

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// insertRow puts a row into a table with an expiry in SQL.
func insertRow(t testing.TB, db *sql.DB, l Layout, key string, data any, expires string) {
	t.Helper()
	l = without(l)
	c := newCompiler(l, table{}, nil)
	text := "INSERT INTO {table} ({id}, {data}, {expires}) VALUES ({:id}, {:data}, " + expires + ")"
	if l.Package == "connect-session-sequelize" {
		stamp := map[Dialect]string{Postgres: "now()", MySQL: "now()", SQLite: "'2030-01-01 00:00:00.000 +00:00'"}[l.Dialect]
		c.names["created"], c.names["updated"] = l.Dialect.dialect().quoted("createdAt"), l.Dialect.dialect().quoted("updatedAt")
		text = "INSERT INTO {table} ({id}, {data}, {expires}, {created}, {updated}) VALUES ({:id}, {:data}, " + expires + ", " + stamp + ", " + stamp + ")"
	}
	c.types = map[string]string{"id": "::text"}
	q := c.compile(text)
	run(t, db, q.text, q.bind(values{"id": key, "data": data})...)
}

// in an hour is an expiry of each column.
func inAnHour(l Layout) string {
	switch {
	case l.Expires == ExpirySeconds:
		return "1893459600"
	case l.Expires == ExpiryMillis:
		return "1893459600000"
	case l.Dialect == Postgres:
		return "'2030-01-01 01:00:00+00'::timestamptz"
	case l.Dialect == MySQL:
		return "'2030-01-01 01:00:00'"
	}
	return "'2030-01-01 01:00:00.000 +00:00'"
}

func TestDocumentsThatAreNone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		isJSON := l.Dialect == Postgres && l.Expires == ExpiryDate && l.Columns.Data == "sess"
		nullable := l.Columns.Data == "data"
		missing := map[string]any{"literal": "null", "false": "false", "zero": "0", "no text": `""`}
		if !isJSON {
			missing["empty"] = ""
		}
		if nullable {
			missing["null"] = nil
		}
		undecodable := map[string]any{"array": "[1]", "number": "7", "text": `"{}"`}
		if !isJSON {
			undecodable["broken"], undecodable["behind"], undecodable["blank"] = `{"a":`, `{} {}`, "[object Object]"
		}
		all := map[string]any{"good": `{"cookie":{}}`}
		for id, data := range missing {
			all[id] = data
		}
		for id, data := range undecodable {
			all[id] = data
		}
		for id, data := range all {
			insertRow(t, db, l, l.IDPrefix+id, data, inAnHour(l))
		}
		for id := range missing {
			_, err := s.Get(ctx, id)
			wantErr(t, id, err, session.ErrNotFound)
		}
		for id := range undecodable {
			_, err := s.Get(ctx, id)
			wantErr(t, id, err, session.ErrUndecodable)
			if strings.Contains(err.Error(), id) {
				t.Errorf("the error tells the ID: %v", err)
			}
		}
		var good, bad []string
		for e, err := range s.All(ctx) {
			switch {
			case err == nil:
				good = append(good, e.ID)
			case errors.Is(err, session.ErrUndecodable):
				bad = append(bad, e.ID)
			default:
				t.Error(err)
			}
		}
		slices.Sort(bad)
		if !slices.Equal(good, []string{"good"}) || len(bad) != len(undecodable) {
			t.Errorf("listed %q, and %q as undecodable", good, bad)
		}
		if n, err := s.Len(ctx); err != nil || n != int64(1+len(undecodable)) {
			t.Errorf("Len is %d (%v), want %d", n, err, 1+len(undecodable))
		}
		// What is there is replaced all the same.
		for id := range all {
			if err := s.Set(ctx, id, doc(frozen, "")); err != nil {
				t.Errorf("set over %s: %v", id, err)
			}
			if _, err := s.Get(ctx, id); err != nil {
				t.Errorf("get %s: %v", id, err)
			}
		}
	})
}

// connect-pg-simple destroys what it cannot parse.
func TestABrokenDocumentIsDestroyedWhereThePackageDoesThat(t *testing.T) {
	t.Parallel()
	db := postgresDB(t, "UTC")
	run(t, db, `CREATE TABLE session (sid varchar PRIMARY KEY, sess text NOT NULL, expire timestamp NOT NULL)`)
	for _, l := range []Layout{ConnectPGSimple(), ConnectPostgresSimple()} {
		s := openOn(t, db, l, quietly, newTestClock(frozen).now)
		insertRow(t, db, l, "broken", `{"a":`, inAnHour(l))
		insertRow(t, db, l, "array", `[1]`, inAnHour(l))
		_, err := s.Get(t.Context(), "broken")
		wantErr(t, l.Package, err, map[bool]error{true: session.ErrNotFound, false: session.ErrUndecodable}[l.DestroysBroken])
		if there := asText(t, db, l, "broken", "sess") != nil; there == l.DestroysBroken {
			t.Errorf("%s: is the row there? %v", l.Package, there)
		}
		_, err = s.Get(t.Context(), "array")
		wantErr(t, l.Package, err, session.ErrUndecodable)
		run(t, db, "DELETE FROM session")
	}
}

// A cookie that never ends has a document and a row which both are read again.
func TestWhatNeverExpiresIsKeptAsLongAsTheColumnCan(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		cookies := []string{`{"expires":"+010000-01-01T00:00:00.000Z"}`, `{"expires":"+275760-09-13T00:00:00.000Z"}`, `{"expires":8.64e15}`, `{"expires":8000000000000000}`}
		if slices.Contains(l.TTL, CookieMaxAge) {
			cookies = append(cookies, `{"maxAge":8.64e15}`, `{"maxAge":1e300}`)
		}
		for i, cookie := range cookies {
			data := []byte(`{"cookie":` + cookie + `}`)
			want, err := s.Expiry(data)
			if err != nil || want.Year() < 2106 || want.After(s.table.latest) {
				t.Errorf("%s: Expiry is %v (%v)", data, want, err)
			}
			id := fmt.Sprint(i)
			e := mustCreate(t, s, id, data)
			if _, err := s.Save(t.Context(), e, data, time.Time{}); err != nil {
				t.Errorf("%s: %v", data, err)
			}
			if err := s.Set(t.Context(), id, data); err != nil {
				t.Errorf("%s: %v", data, err)
			}
			if found, err := s.Touch(t.Context(), id, want); !found || err != nil {
				t.Errorf("%s: touch: %v %v", data, found, err)
			}
			if got, err := s.Get(t.Context(), id); err != nil || !got.Expires.Equal(want) || s.TouchDue(got, want) {
				t.Errorf("%s: got %v %v, want %v", data, got.Expires, err, want)
			}
		}
		if n, err := s.Prune(t.Context()); n != 0 || err != nil {
			t.Errorf("pruned %d (%v)", n, err)
		}
		long := quietly
		long.DefaultTTL = 1<<63 - 1
		s = openOn(t, db, l, long, newTestClock(frozen).now)
		if found, err := s.Touch(t.Context(), "0", time.Time{}); !found || err != nil {
			t.Errorf("touch: %v %v", found, err)
		}
	})
}

func TestExpiriesThatAreNone(t *testing.T) {
	t.Parallel()
	const data = `{"cookie":{}}`
	check := func(t *testing.T, s *Store, id string, live bool) Entry {
		t.Helper()
		e, err := s.Get(t.Context(), id)
		if live && err != nil || !live && !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: %v; is it live? %v", id, err, live)
		}
		return e
	}
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		css, kgs := l.Package == "connect-session-sequelize", l.Package == "koa-generic-session-sequelize"
		if !css && !kgs {
			t.Skip("the column is NOT NULL")
		}
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		insertRow(t, db, l, l.IDPrefix+"null", data, "NULL")
		if e := check(t, s, "null", css); !e.Expires.IsZero() {
			t.Errorf("it expires %v", e.Expires)
		}
		if n, err := s.Prune(t.Context()); n != 0 || err != nil {
			t.Errorf("pruned %d (%v)", n, err)
		}
		if n, err := s.Len(t.Context()); (n == 1) != css || err != nil {
			t.Errorf("Len is %d (%v)", n, err)
		}
		if found, err := s.Touch(t.Context(), "null", frozen.Add(day)); found != css || err != nil {
			t.Errorf("touch: %v %v", found, err)
		}
	})
	t.Run("infinity", func(t *testing.T) {
		t.Parallel()
		for _, l := range []Layout{ConnectPGSimple(), ConnectSessionSequelize(Postgres)} {
			db := postgresDB(t, "Asia/Kathmandu")
			s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
			insertRow(t, db, l, "for ever", data, "'infinity'")
			insertRow(t, db, l, "never", data, "'-infinity'")
			insertRow(t, db, l, "late", data, "'250000-01-01 00:00:00'")
			insertRow(t, db, l, "latest", data, "'294276-12-31 23:59:59'")
			if e := check(t, s, "for ever", true); !e.Expires.Equal(lastDate) {
				t.Errorf("it expires %v", e.Expires)
			}
			check(t, s, "late", true)
			check(t, s, "latest", true)
			check(t, s, "never", false)
		}
	})
	t.Run("numbers", func(t *testing.T) {
		t.Parallel()
		l := KoaGenericSessionSequelize(Postgres)
		db := postgresDB(t, "UTC")
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		insertRow(t, db, l, "koa:sess:most", data, "9223372036854775807")
		insertRow(t, db, l, "koa:sess:least", data, "-9223372036854775808")
		check(t, s, "most", true)
		check(t, s, "least", false)
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		l := ConnectSessionSequelize(SQLite)
		db := sqliteDB(t)
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		for id, tt := range map[string]struct {
			expires string
			live    bool
		}{
			"offset":         {"'2030-01-01 05:00:00.123 +05:00'", false}, // the clock's very moment
			"offset later":   {"'2030-01-01 05:00:00.124 +05:00'", true},
			"offset west":    {"'2029-12-31 23:00:00.000 -05:00'", true},
			"Z":              {"'2030-01-01T00:00:01Z'", true},
			"words":          {"'tomorrow'", false},
			"number":         {"1893459600000", false},
			"empty":          {"''", false},
			"blob":           {"x'00ff'", false},
			"five digits":    {"'12030-01-01 00:00:00.000 +00:00'", false},
			"far but a date": {"'9999-12-31 23:59:59.999 +00:00'", true},
		} {
			insertRow(t, db, l, id, data, tt.expires)
			check(t, s, id, tt.live)
		}
		if n, err := s.Prune(t.Context()); n != 0 || err != nil {
			t.Errorf("pruned %d (%v): what is no date stays, as in Node", n, err)
		}
		l, db = ConnectSQLite(), sqliteDB(t)
		s = openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		for id, tt := range map[string]struct {
			expires string
			live    bool
		}{
			"text":  {"'for ever'", false},
			"float": {"1893459600000.7", true},
			"blob":  {"x'ff'", false},
		} {
			insertRow(t, db, l, "sess:"+id, data, tt.expires)
			check(t, s, id, tt.live)
		}
	})
}

func TestIDsAreTheSameByteForByte(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		e := mustCreate(t, s, "sid", doc(frozen, `,"whose":"mine"`))
		for _, id := range []string{"SID", "sid ", "sid  ", "síd", "ｓid"} {
			_, err := s.Get(ctx, id)
			wantErr(t, "get "+id, err, session.ErrNotFound)
			if found, err := s.Touch(ctx, id, frozen.Add(day)); err != nil || found {
				t.Errorf("touch %q: %v %v", id, found, err)
			}
			if n, err := s.Destroy(ctx, id); err != nil || n != 0 {
				t.Errorf("destroy %q: %d %v", id, n, err)
			}
			other := e
			other.ID = id
			_, err = s.Save(ctx, other, doc(frozen, `,"whose":"another's"`), time.Time{})
			wantErr(t, "save "+id, err, session.ErrNotFound)
			_, err = s.Renew(ctx, other, "new", doc(frozen, ""), time.Time{})
			wantErr(t, "renew "+id, err, session.ErrNotFound)
			// A row for each where the column can have it; else it is in use.
			for _, err := range []error{
				s.Set(ctx, id, doc(frozen, `,"whose":"another's"`)),
				func() error { _, err := s.Create(ctx, id, doc(frozen, ""), time.Time{}); return err }(),
			} {
				if err != nil && !errors.Is(err, session.ErrExists) {
					t.Errorf("write %q: %v", id, err)
				}
				if err != nil && strings.Contains(err.Error(), "sid") {
					t.Errorf("the error tells the ID: %v", err)
				}
			}
			if got, err := s.Get(ctx, "sid"); err != nil || string(got.Data) != string(e.Data) || !got.Expires.Equal(e.Expires) {
				t.Fatalf("after %q: %v %v", id, got, err)
			}
			if _, err := s.Destroy(ctx, id); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestACollationOfPostgresThatIgnoresCase(t *testing.T) {
	t.Parallel()
	db := postgresDB(t, "UTC")
	run(t, db, `CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	run(t, db, `CREATE TABLE session (sid varchar COLLATE ci PRIMARY KEY, sess json NOT NULL, expire timestamp NOT NULL)`)
	s := openOn(t, db, ConnectPGSimple(), quietly, time.Now)
	e := mustCreate(t, s, "sid", doc(time.Now(), ""))
	wantErr(t, "set", s.Set(t.Context(), "SID", e.Data), session.ErrExists)
	if n, err := s.Destroy(t.Context(), "SID"); n != 0 || err != nil {
		t.Errorf("destroyed %d (%v)", n, err)
	}
	if found, err := s.Touch(t.Context(), "SID", time.Time{}); found || err != nil {
		t.Errorf("touch: %v %v", found, err)
	}
	if _, err := s.Save(t.Context(), e, e.Data, time.Time{}); err != nil {
		t.Error(err)
	}
}

func TestForeignPrefixesAreLeftAlone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		if l.IDPrefix == "" {
			t.Skip("the layout has no prefix")
		}
		ctx, clock := t.Context(), newTestClock(frozen)
		opts := created(quietly)
		opts.PruneBatch = 5
		s := openOn(t, db, l, opts, clock.now)
		l.IDPrefix = "other:"
		other := openOn(t, db, l, quietly, clock.now)
		mustCreate(t, s, "a", doc(frozen, ""))
		mustCreate(t, other, "b", doc(frozen, ""))
		insertRow(t, db, l, strings.ToUpper(s.layout.IDPrefix)+"c", `{"cookie":{}}`, inAnHour(l))
		for id, err := range s.IDs(ctx) {
			if id != "a" || err != nil {
				t.Errorf("listed %q (%v)", id, err)
			}
		}
		for e, err := range s.All(ctx) {
			if e.ID != "a" || err != nil {
				t.Errorf("listed %v (%v)", e, err)
			}
		}
		if n, err := s.Len(ctx); n != 1 || err != nil {
			t.Errorf("Len is %d (%v)", n, err)
		}
		if n, err := s.Clear(ctx); n != 1 || err != nil {
			t.Errorf("cleared %d (%v)", n, err)
		}
		if _, err := other.Get(ctx, "b"); err != nil {
			t.Error(err)
		}
		for i := range 12 { // in pages of their own
			insertRow(t, db, l, fmt.Sprint("a", i), `{"cookie":{}}`, inAnHour(l))
			insertRow(t, db, l, fmt.Sprint("z", i), `{"cookie":{}}`, inAnHour(l))
		}
		mustCreate(t, s, "a", doc(frozen, ""))
		if n, err := s.Clear(ctx); n != 1 || err != nil {
			t.Errorf("cleared %d (%v)", n, err)
		}
		clock.add(2 * day)
		if n, err := s.Prune(ctx); n != 26 || err != nil {
			t.Errorf("pruned %d (%v), want 26", n, err)
		}
	})
}

func TestLongDocumentsInMySQL(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, server *dbtest.MySQLServer) {
		db := mysqlDB(t, server, nil)
		s := openOn(t, db, ConnectSessionSequelize(MySQL), created(quietly), time.Now)
		// Bytes count, not characters.
		text := func(n int) []byte { return doc(time.Now(), `,"a":"`+strings.Repeat("é", n/2)+`"`) }
		e, err := s.Create(t.Context(), "a", text(60_000), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Save(t.Context(), e, text(66_000), time.Time{})
		wantErr(t, "save", err, session.ErrTooLarge)
		if got, err := s.Get(t.Context(), "a"); err != nil || string(got.Data) != string(e.Data) {
			t.Errorf("got %d bytes (%v)", len(got.Data), err)
		}
		big := openOn(t, db, ExpressMySQLSession(), created(quietly), time.Now)
		if _, err := big.Create(t.Context(), "a", text(900_000), time.Time{}); err != nil {
			t.Error(err)
		}
	})
}

func TestATableThatIsNotUnicode(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, server *dbtest.MySQLServer) {
		db := mysqlDB(t, server, nil)
		run(t, db, "CREATE TABLE Sessions (sid varchar(36) PRIMARY KEY, expires datetime, data text) CHARACTER SET latin1")
		s := openOn(t, db, without(ConnectSessionSequelize(MySQL)), quietly, time.Now)
		tryAll(t, s, `,"who":"Zoë"`)
		err := s.Set(t.Context(), "a", doc(time.Now(), `,"who":"🚀"`))
		wantErr(t, "set", err, session.ErrInvalid)
		var cause *mysql.MySQLError
		if !errors.As(err, &cause) || strings.Contains(err.Error(), `\xF0`) {
			t.Errorf("%v tells of the document, or not of its cause", err)
		}
		_, err = s.Get(t.Context(), "🚀")
		wantErr(t, "get", err, session.ErrNotFound)
		if found, err := s.Touch(t.Context(), "🚀", time.Time{}); found || err != nil {
			t.Errorf("touch: %v %v", found, err)
		}
		if n, err := s.Destroy(t.Context(), "🚀", "a"); n != 1 || err != nil {
			t.Errorf("destroyed %d (%v), want 1", n, err)
		}
		wantErr(t, "set", s.Set(t.Context(), "🚀", doc(time.Now(), "")), session.ErrInvalid)
	})
}

func TestDocumentsThatJSONBRefuses(t *testing.T) {
	t.Parallel()
	db := postgresDB(t, "UTC")
	s := openOn(t, db, ConnectPGSimple(), created(quietly), time.Now)
	for _, more := range []string{`,"a":"\u0000"`, `,"a":"\ud83d"`} {
		e := mustCreate(t, s, "a"+more, doc(time.Now(), more))
		if _, err := s.Save(t.Context(), e, e.Data, time.Time{}); err != nil {
			t.Error(err)
		}
		b := openOn(t, db, ConnectPostgresSimple(), quietly, time.Now)
		_, err := b.Create(t.Context(), "b", doc(time.Now(), more), time.Time{})
		wantErr(t, "create", err, session.ErrInvalid)
		// A row that the other package wrote can be changed to what jsonb takes.
		if _, err := b.Save(t.Context(), e, doc(time.Now(), ""), time.Time{}); err != nil {
			t.Error(err)
		}
	}
}
