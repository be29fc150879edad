package pgstore

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// after is what is to be seen of a key once a write has returned. The zero
// after is that the key is refused.
type after struct {
	version int64 // 0: any
	data    string
	key     session.Key
}

func (w after) met(rec session.Record, err error) bool {
	if w == (after{}) {
		return isNotFound(err)
	}
	return err == nil && (w.version == 0 || rec.Version == w.version) && string(rec.Data) == w.data && rec.Key == w.key
}

// publicWrites are the writes that other nodes have to know of. Each is given
// a session and says what is to be seen of its key.
func publicWrites() []struct {
	name  string
	kinds string // of the messages
	do    func(t testing.TB, s *Store, rec session.Record) after
} {
	ok := func(t testing.TB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	one := func(t testing.TB, n int, err error) {
		t.Helper()
		if n != 1 || err != nil {
			t.Fatalf("ended %d, %v; want 1", n, err)
		}
	}
	past := func(s *Store, rec session.Record) session.Record {
		rec.Expires = s.Now().Add(-time.Hour)
		return rec
	}
	successor := func(s *Store, rec session.Record) session.Record {
		next := fresh(s, rec.User)
		next.Version, next.Data = rec.Version, []byte("renewed")
		return next
	}
	limit := session.UserLimit{Max: 1, Evict: true}
	return []struct {
		name  string
		kinds string
		do    func(t testing.TB, s *Store, rec session.Record) after
	}{
		{"Destroy", "k", func(t testing.TB, s *Store, rec session.Record) after {
			n, err := s.Destroy(t.Context(), rec.Key)
			one(t, int(n), err)
			return after{}
		}},
		{"DestroyOnAllNodes", "k", func(t testing.TB, s *Store, rec session.Record) after {
			n, err := s.DestroyOnAllNodes(t.Context(), rec.Key)
			one(t, int(n), err)
			return after{}
		}},
		{"DestroyUser", "uu", func(t testing.TB, s *Store, rec session.Record) after { // one for each pass
			n, err := s.DestroyUser(t.Context(), rec.User)
			one(t, int(n), err)
			return after{}
		}},
		{"Save", "k", func(t testing.TB, s *Store, rec session.Record) after {
			rec = saved(t, s, rec, "other")
			return after{rec.Version, "other", rec.Key}
		}},
		{"Save that ends the session", "k", func(t testing.TB, s *Store, rec session.Record) after {
			_, err := s.Save(t.Context(), past(s, rec))
			ok(t, err)
			return after{}
		}},
		{"Renew", "k", func(t testing.TB, s *Store, rec session.Record) after {
			_, err := s.Renew(t.Context(), rec.Key, successor(s, rec), 0)
			ok(t, err)
			return after{}
		}},
		{"Renew with a grace period", "k", func(t testing.TB, s *Store, rec session.Record) after {
			next, err := s.Renew(t.Context(), rec.Key, successor(s, rec), time.Hour)
			ok(t, err)
			return after{next.Version, "renewed", next.Key}
		}},
		{"RenewLimited", "k", func(t testing.TB, s *Store, rec session.Record) after {
			_, evicted, err := s.RenewLimited(t.Context(), rec.Key, successor(s, rec), 0, limit)
			if len(evicted) != 0 {
				t.Errorf("RenewLimited ended %v", evicted)
			}
			ok(t, err)
			return after{}
		}},
		{"RenewLimited that ends another session", "kk", func(t testing.TB, s *Store, rec session.Record) after {
			other := create(t, s, rec.User)
			_, evicted, err := s.RenewLimited(t.Context(), other.Key, successor(s, other), 0, limit)
			one(t, len(evicted), err)
			return after{}
		}},
		{"CreateLimited that ends another session", "k", func(t testing.TB, s *Store, rec session.Record) after {
			_, evicted, err := s.CreateLimited(t.Context(), fresh(s, rec.User), limit)
			one(t, len(evicted), err)
			return after{}
		}},
		{"Put", "k", func(t testing.TB, s *Store, rec session.Record) after {
			rec.Data = []byte("put")
			put, err := s.Put(t.Context(), rec)
			ok(t, err)
			return after{put.Version, "put", rec.Key}
		}},
		{"Put that ends the session", "k", func(t testing.TB, s *Store, rec session.Record) after {
			_, err := s.Put(t.Context(), past(s, rec))
			ok(t, err)
			return after{}
		}},
		{"Clear", "a", func(t testing.TB, s *Store, rec session.Record) after {
			n, err := s.Clear(t.Context())
			if n < 1 {
				t.Errorf("Clear = %d", n)
			}
			ok(t, err)
			return after{}
		}},
	}
}

// Whatever a node writes holds at once there, and on the others as soon as they
// have heard of it.
func TestAWriteOnOneNodeHoldsOnAll(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	brief := leasing(t, migrations.MinLease) // which writes that wait for all nodes wait out
	nodes := map[place][2]*Store{p: {p.cached(t, Options{}), p.cached(t, Options{})}, brief: {brief.cached(t, Options{}), brief.cached(t, Options{})}}
	for _, w := range publicWrites() {
		for _, foreign := range []bool{false, true} {
			at := p
			if strings.HasSuffix(w.name, "OnAllNodes") {
				at = brief
			}
			a, b := nodes[at][0], nodes[at][1]
			rec := fresh(a, fmt.Sprint(w.name, foreign))
			if foreign {
				rec.Key = session.ForeignKey("test", w.name)
			}
			rec, err := a.Create(t.Context(), rec)
			if err != nil {
				t.Fatal(err)
			}
			if at == p {
				warm(t, rec.Key, a, b)
			} else {
				mustGet(t, a, rec.Key)
				mustGet(t, b, rec.Key)
			}
			heard := messages(b)
			want := w.do(t, a, rec)
			if got, err := a.Get(t.Context(), rec.Key); !want.met(got, err) {
				t.Errorf("%s (foreign: %v): on the same node Get = %+v, %v; want %+v", w.name, foreign, got, err, want)
			}
			dbtest.Eventually(t, w.name+" holds on the other node", func() bool { return want.met(b.Get(t.Context(), rec.Key)) })
			for _, s := range []*Store{a, b, b} {
				if got, err := s.Get(t.Context(), rec.Key); !want.met(got, err) {
					t.Errorf("%s (foreign: %v): later Get = %+v, %v; want %+v", w.name, foreign, got, err, want)
				}
			}
			if messages(b) == heard {
				t.Errorf("%s: the other node got no message", w.name)
			}
			if messages(a) != 0 {
				t.Errorf("%s: the node took its own message for another's", w.name)
			}
		}
	}
}

// What others need not forget is not sent, and what is sent says nothing.
func TestNotificationsAreFewAndSayNothing(t *testing.T) {
	t.Parallel()
	p := leasing(t, migrations.MinLease)
	s := p.caching(t, Options{})
	l := p.tap(t, s)
	deadline := s.Now().Add(24 * time.Hour)
	id := session.NewID(deadline)
	secret := fresh(s, "someone with a name")
	secret.Key, secret.Deadline, secret.Data = id.Key(), deadline, []byte("what nobody else shall know")

	silent := map[string]func(rec session.Record) error{
		"Get":      func(rec session.Record) error { _, err := s.Get(t.Context(), rec.Key); return err },
		"GetFresh": func(rec session.Record) error { _, err := s.GetFresh(t.Context(), rec.Key); return err },
		"Touch": func(rec session.Record) error {
			_, err := s.Touch(t.Context(), rec.Key, rec.Expires.Add(time.Minute))
			return err
		},
		"TouchLater": func(rec session.Record) error {
			_, err := s.TouchLater(t.Context(), rec.Key, rec.Expires.Add(2*time.Minute))
			dbtest.Eventually(t, "the touch is written", func() bool { return !rowOf(t, p, rec.Key).Expires.Before(rec.Expires.Add(2 * time.Minute)) })
			return err
		},
		"Create": func(session.Record) error { _, err := s.Create(t.Context(), fresh(s, "")); return err },
		"Create of a foreign key": func(session.Record) error {
			rec := fresh(s, "")
			rec.Key = session.ForeignKey("test", "silent")
			_, err := s.Create(t.Context(), rec)
			return err
		},
		"CreateLimited without a victim": func(session.Record) error {
			_, _, err := s.CreateLimited(t.Context(), fresh(s, "alone"), session.UserLimit{Max: 1, Evict: true})
			return err
		},
		"ListUser": func(rec session.Record) error {
			_, err := s.ListUser(t.Context(), rec.User, session.Record{}, 1000)
			return err
		},
		"WaitForAllNodes": func(session.Record) error { return s.WaitForAllNodes(t.Context()) },
	}
	rec, err := s.Create(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	l.heard(t)
	for name, do := range silent {
		if err := do(rec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := l.heard(t); len(got) != 0 {
			t.Errorf("%s sent %q", name, got)
		}
	}
	destroyed(t, s, rec.Key)

	all := l.heard(t)
	for i, w := range publicWrites() {
		id = session.NewID(deadline)
		secret.Key = id.Key()
		secret.User = fmt.Sprint("someone with a name ", i)
		rec, err := s.Create(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
		w.do(t, s, rec)
		got := l.heard(t)
		if sent := kinds(got); sent != w.kinds && !(w.name == "Clear" && strings.Trim(sent, "a") == "") {
			t.Errorf("%s sent messages %q, want %q", w.name, sent, w.kinds)
		}
		raw := []byte(id.Secret())
		if decoded, err := base64.RawURLEncoding.DecodeString(id.Secret()); err == nil {
			raw = decoded
		}
		for _, payload := range got {
			decoded, err := base64.RawURLEncoding.DecodeString(payload[2:])
			if err != nil {
				t.Errorf("%s sent %q: %v", w.name, payload, err)
			}
			for what, part := range map[string][]byte{
				"the ID": raw[:8], "the end of the ID": raw[24:32], "the whole key": rec.Key.Hash[16:24],
				"the user": []byte("someone"), "the data": []byte("nobody"),
			} {
				if bytes.Contains(decoded, part) || strings.Contains(payload, string(part)) {
					t.Errorf("%s sent %q, which has %s in it", w.name, payload, what)
				}
			}
			if strings.Contains(payload, id.Secret()[:10]) {
				t.Errorf("%s sent %q, which has the ID in it", w.name, payload)
			}
		}
		all = append(all, got...)
	}
	for _, payload := range all {
		if len(payload) >= 8000 {
			t.Errorf("a payload has %d bytes", len(payload))
		}
	}
}

func TestAThousandLogoutsTakeFewNotifications(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a, b := p.cached(t, Options{}), p.cached(t, Options{})
	const count = 1000
	recs := createN(t, a, count)
	keys := make([]session.Key, count)
	for i, rec := range recs {
		keys[i] = rec.Key
		mustGet(t, b, rec.Key)
	}
	spared := create(t, a, "ada")
	warm(t, spared.Key, a, b)
	l := p.tap(t, a)
	if n, err := a.Destroy(t.Context(), keys...); n != count || err != nil {
		t.Fatalf("Destroy = %d, %v", n, err)
	}
	sent := l.heard(t)
	if n := len(sent); n < 3 || n > 4 || strings.Trim(kinds(sent), "k") != "" {
		t.Errorf("%d messages %q, want 3 or 4 of keys", n, kinds(sent))
	}
	for _, payload := range sent {
		if len(payload) >= 8000 {
			t.Errorf("a payload has %d bytes", len(payload))
		}
	}
	dbtest.Eventually(t, "the other node has heard of it", func() bool { return messages(b) == uint64(len(sent)) })
	for _, key := range keys {
		refusesNow(t, "the same node", a, key)
		refusesNow(t, "the other node", b, key)
	}
	mustGet(t, b, spared.Key)
}

func TestALogoutOfAUserWithManySessionsTakesFewNotifications(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a, b := p.cached(t, Options{}), p.cached(t, Options{})
	const count = 10_000
	bucket := p.hour(t) + 100
	p.exec(t, fillSQL(p.names(t).Sessions, bucket, 1, count, 10, "d"))
	p.exec(t, `UPDATE `+p.names(t).Sessions+` SET user_id = 'everybody' WHERE bucket = $1`, bucket)
	other := create(t, a, "ada")
	for i := 1; i <= count; i += 100 {
		warm(t, numbered(i, bucket), a, b)
	}
	warm(t, other.Key, a, b)
	l := p.tap(t, a)
	if n, err := a.DestroyUser(t.Context(), "everybody"); n != count || err != nil {
		t.Fatalf("DestroyUser = %d, %v", n, err)
	}
	sent := l.heard(t)
	if n := len(sent); n > count/endBatch+1 || strings.Trim(kinds(sent), "u") != "" {
		t.Errorf("%d messages %q, want at most %d of users", n, kinds(sent), count/endBatch+1)
	}
	dbtest.Eventually(t, "the other node has heard of it", func() bool { return messages(b) == uint64(len(sent)) })
	for i := 1; i <= count; i += 100 {
		refusesNow(t, "the same node", a, numbered(i, bucket))
		refusesNow(t, "the other node", b, numbered(i, bucket))
	}
	mustGet(t, b, other.Key)
}
