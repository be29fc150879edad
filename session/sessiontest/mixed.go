package sessiontest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func mixedCases() []testCase {
	return []testCase{
		{name: "64 goroutines on two nodes see one history", own: true, run: mixed},
	}
}

// history is what is known of the sessions: what a call has learned binds all
// calls that begin later.
type history struct {
	mu    sync.Mutex
	known map[[32]byte]*life
}

type life struct {
	key     session.Key
	user    string
	version int64          // the highest that was read or written
	expires time.Time      // the latest
	written map[int64]bool // versions that a Save or Put was told it wrote
	ended   bool           // the key itself takes no writes any more
	dead    bool           // nor does it lead to another session
	// Destroy follows a dead key to what it was renewed to; once.
	destroyed bool
}

func (h *history) add(rec session.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[rec.Key.Hash] = &life{
		key: rec.Key, user: rec.User, version: rec.Version, expires: rec.Expires, written: map[int64]bool{},
	}
}

// before returns what is known of key now.
func (h *history) before(key session.Key) life {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.known[key.Hash]; l != nil {
		return *l
	}
	return life{} // created by a call under way
}

func (h *history) learn(key session.Key, f func(l *life)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.known[key.Hash]; l != nil {
		f(l)
	}
}

func (l *life) saw(rec session.Record) {
	l.version = max(l.version, rec.Version)
	if rec.Expires.After(l.expires) {
		l.expires = rec.Expires
	}
}

func die(l *life) { l.ended, l.dead = true, true }

func destroyed(l *life) {
	die(l)
	l.destroyed = true
}

// player is one goroutine.
type player struct {
	*env
	*history
	rng   *rand.Rand
	slots []*slot
}

// slot holds the session that the players currently fight over.
type slot struct {
	mu  sync.Mutex
	rec session.Record
}

func (s *slot) get() session.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec
}

func (s *slot) set(rec session.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec = rec
}

func mixed(e *env) {
	const players, sessions = 64, 16
	e.peer()
	h := &history{known: map[[32]byte]*life{}}
	slots := make([]*slot, sessions)
	for i := range slots {
		slots[i] = &slot{}
		p := &player{env: e, history: h, slots: slots}
		p.begin(e.s, i)
	}
	var wg sync.WaitGroup
	for i := range players {
		p := &player{env: e, history: h, rng: rand.New(rand.NewPCG(1, uint64(i))), slots: slots}
		wg.Go(func() {
			for range rounds.Of(40) {
				p.move(e.node(p.rng.IntN(2)))
			}
		})
	}
	wg.Wait()

	if has(e.s, Lister) {
		for hash, n := range listedKeys(e, e.s) {
			if l := h.before(session.Key{Hash: hash}); n != 1 || l.ended {
				e.Errorf("a session is listed %d times; known of it: %+v", n, l)
			}
		}
	}
	for _, l := range h.known {
		if _, err := fresh(e.ctx, e.s, l.key); l.dead && !isAny(err, session.ErrNotFound) {
			e.Errorf("Get of a dead session: %v", err)
		}
	}
}

// begin puts a new session into a slot.
func (p *player) begin(s session.Store, i int) {
	rec := p.record()
	if i%4 == 0 {
		rec = p.foreign()
	}
	rec.User = fmt.Sprint("player ", i%3)
	rec.Expires = rec.Deadline.Add(-time.Hour)
	got, err := s.Create(p.ctx, rec)
	if err != nil {
		p.Errorf("Create: %v", err)
		return
	}
	p.add(got)
	p.slots[i].set(got)
}

func (p *player) move(s session.Store) {
	i := p.rng.IntN(len(p.slots))
	rec := p.slots[i].get()
	before := p.before(rec.Key)
	wrong := func(what string, got session.Record) {
		p.Errorf("%s succeeded with version %d, expiry %v; before it was known: %+v", what, got.Version, got.Expires, before)
	}
	switch n := p.rng.IntN(100); {
	case n < 30:
		got, err := fresh(p.ctx, s, rec.Key)
		if err != nil {
			p.refused("Get", err, session.ErrNotFound)
			p.learn(rec.Key, die)
			return
		}
		if before.dead || got.Key == rec.Key && (before.ended || got.Version < before.version || got.Expires.Before(before.expires)) {
			wrong("Get", got)
		}
		p.learn(got.Key, func(l *life) { l.saw(got) })
		if got.Key == rec.Key {
			p.slots[i].set(got)
		}
	case n < 60:
		rec.Data, rec.Expires = []byte(p.unique(private)), time.Time{}
		got, err := s.Save(p.ctx, rec)
		p.wrote("Save", rec.Key, before, got, err)
		if err == nil {
			if got.Version <= rec.Version {
				wrong("Save", got)
			}
			p.slots[i].set(got)
		}
	case n < 75:
		expires, err := s.Touch(p.ctx, rec.Key, rec.Deadline.Add(-time.Duration(p.rng.IntN(3600))*time.Second))
		if err != nil {
			p.refused("Touch", err, session.ErrNotFound)
			p.learn(rec.Key, func(l *life) { l.ended = true })
			return
		}
		touched := session.Record{Version: before.version, Expires: expires}
		if before.ended || expires.Before(before.expires) {
			wrong("Touch", touched)
		}
		p.learn(rec.Key, func(l *life) { l.saw(touched) })
	case n < 85:
		next := p.successor(rec)
		grace := time.Duration(p.rng.IntN(2)) * time.Hour
		got, err := s.Renew(p.ctx, rec.Key, next, grace)
		if err != nil {
			p.refused("Renew", err, session.ErrNotFound, session.ErrConflict)
			return
		}
		if before.ended {
			wrong("Renew", got)
		}
		p.add(got)
		p.learn(rec.Key, func(l *life) {
			if l.ended = true; grace == 0 {
				l.dead = true
			}
		})
		p.slots[i].set(got)
	case n < 90 && has(s, Putter):
		rec.Expires = time.Time{}
		got, err := s.(session.Putter).Put(p.ctx, rec)
		p.wrote("Put", rec.Key, before, got, err)
		if err == nil {
			p.slots[i].set(got)
		}
	case n < 91 && has(s, UserIndex):
		p.endUser(s, fmt.Sprint("player ", i%3))
	default:
		n, err := s.Destroy(p.ctx, rec.Key)
		if err != nil || n > 1 || before.destroyed && n > 0 {
			p.Errorf("Destroy = %d, %v; before it was known: %+v", n, err, before)
		}
		p.learn(rec.Key, destroyed)
		p.begin(s, i)
	}
}

// wrote checks a write that made a new version.
func (p *player) wrote(what string, key session.Key, before life, got session.Record, err error) {
	if err != nil {
		p.refused(what, err, session.ErrNotFound, session.ErrConflict)
		if isAny(err, session.ErrNotFound) {
			p.learn(key, func(l *life) { l.ended = true })
		}
		return
	}
	p.learn(key, func(l *life) {
		if before.ended || got.Version <= before.version || l.written[got.Version] {
			p.Errorf("%s wrote version %d; before it was known: %+v", what, got.Version, before)
		}
		l.written[got.Version] = true
		l.saw(got)
	})
}

func (p *player) endUser(s session.Store, user string) {
	var doomed []*life
	p.mu.Lock()
	for _, l := range p.known {
		if l.user == user {
			doomed = append(doomed, l)
		}
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := s.(session.UserIndex).DestroyUser(ctx, user); err != nil {
		p.Errorf("DestroyUser: %v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range doomed {
		destroyed(l)
	}
}
