package nodestore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// fakeRows is a table in memory.
type fakeRows struct {
	mu   sync.Mutex
	now  func() time.Time
	rows map[string]nodestore.Entry
}

func (f *fakeRows) live(id string) (nodestore.Entry, error) {
	e, ok := f.rows[id]
	if !ok || !e.Expires.IsZero() && !e.Expires.After(f.now()) {
		return nodestore.Entry{}, session.ErrNotFound
	}
	return e, nil
}

func (f *fakeRows) Get(_ context.Context, id string) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live(id)
}

func (f *fakeRows) Create(_ context.Context, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.rows[id]; taken {
		return nodestore.Entry{}, session.ErrExists
	}
	f.rows[id] = nodestore.Entry{ID: id, Data: data, Expires: expires}
	return f.rows[id], nil
}

func (f *fakeRows) Save(_ context.Context, read nodestore.Entry, data []byte, expires time.Time) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch now, err := f.live(read.ID); {
	case err != nil:
		return nodestore.Entry{}, err
	case string(now.Data) != string(read.Data):
		return nodestore.Entry{}, session.ErrConflict
	}
	f.rows[read.ID] = nodestore.Entry{ID: read.ID, Data: data, Expires: expires}
	return f.rows[read.ID], nil
}

func (f *fakeRows) Renew(_ context.Context, read nodestore.Entry, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch now, err := f.live(read.ID); {
	case err != nil:
		return nodestore.Entry{}, err
	case string(now.Data) != string(read.Data):
		return nodestore.Entry{}, session.ErrConflict
	}
	delete(f.rows, read.ID)
	f.rows[id] = nodestore.Entry{ID: id, Data: data, Expires: expires}
	return f.rows[id], nil
}

func (f *fakeRows) Touch(_ context.Context, id string, expires time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.live(id)
	if err != nil {
		return false, nil
	}
	e.Expires = expires
	f.rows[id] = e
	return true, nil
}

func (f *fakeRows) TouchDue(read nodestore.Entry, expires time.Time) bool {
	return !read.Expires.Equal(expires)
}

func (f *fakeRows) Destroy(_ context.Context, ids ...string) (n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if _, there := f.rows[id]; there {
			n++
		}
		delete(f.rows, id)
	}
	return n, nil
}

func (f *fakeRows) Expiry(data []byte) (time.Time, error) {
	var doc struct {
		Cookie struct {
			Expires *time.Time `json:"expires"`
			MaxAge  *float64   `json:"maxAge"`
		} `json:"cookie"`
	}
	err := json.Unmarshal(data, &doc)
	switch {
	case doc.Cookie.Expires != nil:
		return *doc.Cookie.Expires, err
	case doc.Cookie.MaxAge != nil:
		return f.now().Add(time.Duration(*doc.Cookie.MaxAge) * time.Millisecond), err
	}
	return f.now().Add(24 * time.Hour), err
}

// Fits takes what is no longer than the default.
func (f *fakeRows) Fits(data []byte) error {
	if n := len(data); n > 1<<20 {
		return fmt.Errorf("%w: %d bytes; the limit is %d", session.ErrTooLarge, n, 1<<20)
	}
	return nil
}

// Set is what a Node request does: it replaces whatever is there.
func (f *fakeRows) Set(_ context.Context, id string, data []byte, _ ...nodestore.SetOption) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	expires, err := f.Expiry(data)
	f.rows[id] = nodestore.Entry{ID: id, Data: data, Expires: expires}
	return err
}

// rows is a store with what Node does.
type rows interface {
	nodestore.Entries
	Set(context.Context, string, []byte, ...nodestore.SetOption) error
}

// spied notes the calls of a store, and fails those it is told to.
type spied struct {
	rows
	mu    sync.Mutex
	calls []string
	fails map[string]error
	first map[string]func() // is called once, before the call

	saving, mostSaving int // calls of Save at the same time
}

func (s *spied) countSaving(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving += n
	s.mostSaving = max(s.mostSaving, s.saving)
}

func (s *spied) call(name string) error {
	s.mu.Lock()
	s.calls = append(s.calls, name)
	err, first := s.fails[name], s.first[name]
	delete(s.first, name)
	s.mu.Unlock()
	if first != nil {
		first()
	}
	return err
}

// taken returns the calls since it was last asked.
func (s *spied) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := strings.Join(s.calls, " ")
	s.calls = nil
	return calls
}

func (s *spied) fail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = map[string]error{name: err}
}

func (s *spied) before(name string, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = map[string]func(){name: f}
}

func (s *spied) Get(ctx context.Context, id string) (nodestore.Entry, error) {
	if err := s.call("get"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Get(ctx, id)
}

func (s *spied) Create(ctx context.Context, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	if err := s.call("create"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Create(ctx, id, data, expires)
}

func (s *spied) Save(ctx context.Context, read nodestore.Entry, data []byte, expires time.Time) (nodestore.Entry, error) {
	s.countSaving(1)
	defer s.countSaving(-1)
	if err := s.call("save"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Save(ctx, read, data, expires)
}

func (s *spied) Renew(ctx context.Context, read nodestore.Entry, id string, data []byte, expires time.Time) (nodestore.Entry, error) {
	if err := s.call("renew"); err != nil {
		return nodestore.Entry{}, err
	}
	return s.rows.Renew(ctx, read, id, data, expires)
}

func (s *spied) Touch(ctx context.Context, id string, expires time.Time) (bool, error) {
	if err := s.call("touch"); err != nil {
		return false, err
	}
	return s.rows.Touch(ctx, id, expires)
}

func (s *spied) Destroy(ctx context.Context, ids ...string) (int64, error) {
	if err := s.call("destroy"); err != nil {
		return 0, err
	}
	return s.rows.Destroy(ctx, ids...)
}
