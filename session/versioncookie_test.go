package session_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/session"
)

// laggingStore is a node's store with a memory: Get returns what was there when
// the node first read it.
type laggingStore struct {
	*spyStore
	held map[session.Key]session.Record
	lag  time.Duration
}

func (s *laggingStore) Get(ctx context.Context, key session.Key) (session.Record, error) {
	if rec, ok := s.held[key]; ok {
		return rec, nil
	}
	return s.GetFresh(ctx, key)
}

func (s *laggingStore) GetFresh(ctx context.Context, key session.Key) (session.Record, error) {
	rec, err := s.spyStore.Get(ctx, key)
	if err == nil {
		s.held[key] = rec
	}
	return rec, err
}

func (s *laggingStore) GetVersion(ctx context.Context, key session.Key, version int64) (session.Record, error) {
	rec, err := s.Get(ctx, key)
	if err != nil || rec.Version >= version {
		return rec, err
	}
	return s.GetFresh(ctx, key)
}

func (s *laggingStore) Lag() time.Duration { return s.lag }

// jar is a browser that keeps all cookies until their Max-Age has passed.
type jar struct {
	t       *testing.T
	cookies map[string]*http.Cookie
}

func (j *jar) visit(m *session.Manager, do page) *http.Response {
	j.t.Helper()
	var pairs []string
	for name, c := range j.cookies {
		pairs = append(pairs, name+"="+c.Value)
	}
	res := answerOf(m, get(strings.Join(pairs, "; ")), do)
	j.keep(res)
	return res
}

func (j *jar) keep(res *http.Response) {
	for _, c := range res.Cookies() {
		if j.cookies[c.Name] = c; c.MaxAge < 0 {
			delete(j.cookies, c.Name)
		}
	}
}

// twoNodes is a browser with a session that both nodes hold in their memories.
func twoNodes(t *testing.T, opts session.Options) (j *jar, a, b *session.Manager, store *spyStore) {
	t.Helper()
	clock := &handClock{now: noon}
	store = &spyStore{Store: memory.Open(t, clock.Now)}
	var nodes []*session.Manager
	for range 2 {
		m, err := session.NewManager(&laggingStore{spyStore: store, held: map[session.Key]session.Record{}, lag: 2 * time.Second}, opts)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, m)
	}
	j = &jar{t: t, cookies: map[string]*http.Cookie{}}
	j.visit(nodes[0], setting(t, "k", 0))
	if len(j.cookies) != 1 {
		t.Errorf("a new session has the cookies %v", j.cookies)
	}
	for _, m := range nodes {
		j.visit(m, wanting(t, "k", 0))
	}
	store.taken()
	return j, nodes[0], nodes[1], store
}

func wanting(t testing.TB, key string, want int) page {
	return func(_ context.Context, s *session.Session) {
		if got, err := session.Get[int](s, key); got != want || err != nil {
			t.Errorf("%s = %d, %v; want %d", key, got, err, want)
		}
	}
}

func TestARequestSeesWhatTheAnswerBeforeItSaved(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "shop"} {
		j, a, b, store := twoNodes(t, session.Options{Name: name})
		for i := range 20 {
			from, to := a, b
			if i%3 == 0 {
				from, to = b, a
			}
			j.visit(from, setting(t, "k", i+1))
			j.visit(to, wanting(t, "k", i+1))
			store.taken()
			j.visit(to, wanting(t, "k", i+1)) // which has it in memory
			if calls := store.taken(); len(calls) > 0 {
				t.Errorf("a request that sees the newest version costs %v", calls)
			}
		}
		if n := len(j.cookies); n != 9 {
			t.Errorf("the browser has %d cookies; want 9", n)
		}
	}
}

// Answers to requests at the same time may come in any order.
func TestAnOlderVersionDoesNotHideANewerOne(t *testing.T) {
	t.Parallel()
	j, a, b, _ := twoNodes(t, session.Options{})
	var answers []*http.Response
	for i := range 7 {
		answers = append(answers, answerOf(a, get(j.cookie()), setting(t, "k", i+1)))
	}
	for i := len(answers) - 1; i >= 0; i-- {
		j.keep(answers[i])
	}
	j.visit(b, wanting(t, "k", 7))
}

// cookie is the header with the session's cookie only.
func (j *jar) cookie() string {
	for name, c := range j.cookies {
		if !strings.Contains(name, "-v") {
			return name + "=" + c.Value
		}
	}
	return ""
}

func TestVersionCookiesAreLikeTheSessionsAndShort(t *testing.T) {
	t.Parallel()
	j, a, _, _ := twoNodes(t, session.Options{Policy: session.Policy{Persistent: true}})
	of := *j.cookies["__Host-session"]
	res := j.visit(a, setting(t, "k", 1))
	cookies := res.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("the answer sets %v", cookies)
	}
	got := *cookies[0]
	version, err := strconv.ParseInt(got.Value, 36, 64)
	if err != nil || version <= 0 {
		t.Errorf("its value is %q", got.Value)
	}
	if !strings.HasPrefix(got.Name, "__Host-session-v") || got.MaxAge != 4 {
		t.Errorf("the cookie is %v", &got)
	}
	of.Name, of.Value, of.MaxAge, of.Raw, got.Name, got.Value, got.MaxAge, got.Raw = "", "", 0, "", "", "", 0, ""
	if fmt.Sprint(got) != fmt.Sprint(of) {
		t.Errorf("it has the attributes %+v; want those of the session's, %+v", got, of)
	}
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Error("a cache may keep the cookie")
	}
}

func TestVersionCookiesThatLieCostAReadAtMost(t *testing.T) {
	t.Parallel()
	j, a, _, store := twoNodes(t, session.Options{})
	for value, reads := range map[string]int{
		"": 0, "0": 0, "-1": 0, "zz zz": 0, "!": 0, strings.Repeat("z", 14): 0, "1": 0, "1y2p0ij32e8e7": 1,
	} {
		for name, reads := range map[string]int{"__Host-session-v0": reads, "__Host-session-v": reads, "__Host-session-vx": reads, "session-v0": 0} {
			r := get(j.cookie() + "; " + name + "=" + value)
			answerOf(a, r, wanting(t, "k", 0))
			if calls := store.taken(); len(calls) != reads {
				t.Errorf("%s=%s costs %v; want %d reads", name, value, calls, reads)
			}
		}
	}
	r := get(strings.Repeat("__Host-session-v0=1y2p0ij32e8e7; ", 100) + j.cookie())
	r.Header.Add("Cookie", strings.Repeat("__Host-session-v;", 1000)+"__Host-session-v1=1y2p0ij32e8e7")
	answerOf(a, r, wanting(t, "k", 0))
	if calls := store.taken(); len(calls) != 1 {
		t.Errorf("many cookies cost %v", calls)
	}
}

func TestOnlyAnswersThatSaveTellTheVersion(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   page
		want string
	}{
		"nothing": {nil, ""},
		"a read":  {wanting(t, "k", 0), ""},
		"a save":  {setting(t, "k", 1), "__Host-session-v1"},
		"Save": {func(ctx context.Context, s *session.Session) {
			setting(t, "k", 1)(ctx, s)
			if err := s.Save(ctx); err != nil {
				t.Error(err)
			}
		}, "__Host-session-v1"},
		"a save and a new ID": {func(ctx context.Context, s *session.Session) {
			setting(t, "k", 1)(ctx, s)
			if err := s.Save(ctx); err != nil {
				t.Error(err)
			}
			loggingIn(t, "ann", session.Login{})(ctx, s)
		}, "__Host-session"},
		"a save and its end": {func(ctx context.Context, s *session.Session) {
			setting(t, "k", 1)(ctx, s)
			if err := s.Save(ctx); err != nil {
				t.Error(err)
			}
			if err := s.Destroy(ctx); err != nil {
				t.Error(err)
			}
		}, "__Host-session"},
	} {
		j, a, _, _ := twoNodes(t, session.Options{})
		var names []string
		for _, c := range answerOf(a, get(j.cookie()), c.do).Cookies() {
			names = append(names, c.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: the answer sets %q; want %q", name, got, c.want)
		}
	}
}
