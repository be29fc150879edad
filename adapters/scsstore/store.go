// Package scsstore keeps the sessions of github.com/alexedwards/scs/v2 in a
// session.Store. An application changes the line that makes its store:
//
//	sessionManager.Store, err = scsstore.New(store, scsstore.Options{})
//
// What scs then gains:
//
//   - A session that was destroyed, or whose token was renewed, stays dead, although
//     slower requests commit it again.
//   - A request that changes nothing writes nothing but a touch now and then, also with
//     an IdleTimeout, for which scs commits at the end of every request.
//   - Iterate and Destroy end sessions together with HashTokenInStore too.
//   - DestroyUser logs a user out everywhere.
//
// What no store can mend: scs writes all values of a session at once, so of two
// requests that change different ones at the same time, the last one wins. The
// session.Manager of this module merges them.
//
// The package does not import scs, whose interfaces Store, CtxStore, IterableStore and
// IterableCtxStore it has.
package scsstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sojourn-go/sojourn/adapters/internal/places"
	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/session"
)

// Options are a Store's settings. The zero Options work.
type Options struct {
	// Name keeps the sessions and users of several scs managers apart on one store.
	// Users of the same name here and in session.Options are the same: whoever
	// ends all sessions of one there ends those here too.
	Name string
	// Codec is the Codec of the scs manager. nil is its GobCodec. By it the store
	// knows the deadline of a new session, and whether values have changed. What it
	// cannot decode is kept all the same, as bytes.
	Codec Codec
	// User returns whose session it is by its values, empty where nobody has logged
	// in, so that DestroyUser finds it. A token's user is fixed when the token is
	// first committed with one. The application must call RenewToken when a user
	// logs in, as OWASP asks; a Commit that gives a token another user fails with
	// session.ErrUserChanged. nil is nobody.
	User func(values map[string]any) string
	// Lifetime is how long a token may last, from its first Commit. 0 is until the
	// deadline that the manager gave it then, and a SetDeadline that comes later
	// can only shorten that. It is the most that SetDeadline can do otherwise. A
	// token may not outlast the longest lifetime of the store.
	Lifetime time.Duration
	// Old is the store that the application had before, of this package's Name. With
	// it sessions move from there without a logout, as Phase says; a token's user, for
	// DestroyUser, is known once its session has moved. The store has to be a
	// session.Explainer. nil is none.
	Old Old
	// Phase is what becomes of the sessions of Old.
	Phase moving.Phase
	// FailDead makes Commit fail with session.ErrNotFound when the session has ended
	// meanwhile, so that ErrorFunc of the manager answers. Without it the request is
	// answered as if it had been saved, as the browser will learn of the end with its
	// next one.
	FailDead bool
}

// Codec is what decodes the values of scs: each scs.Codec does.
type Codec interface {
	Decode(b []byte) (deadline time.Time, values map[string]any, err error)
}

// Store is a store for scs. All methods may be called concurrently. Those without a
// context are the same as those with one, for as long as the session.Store takes.
type Store struct {
	sessions *unversioned.Store
	both     *places.Store // nil if there is no old store
	old      oldStore
	opts     Options
	scheme   string
	listed   atomic.Bool // All has given away aliases
}

// New makes a Store. The session.Store stays the caller's to close. The error is
// errors.ErrUnsupported if that store is no session.Putter, or if Options.User is set
// and the store is no session.UserIndex.
func New(store session.Store, opts Options) (*Store, error) {
	sessions, err := unversioned.New(store)
	if err != nil {
		return nil, wrap("new", err)
	}
	if opts.Lifetime < 0 {
		return nil, fmt.Errorf("scsstore: %w: Options.Lifetime is %v; it must not be negative", session.ErrInvalid, opts.Lifetime)
	}
	if opts.User != nil {
		if _, err := sessions.Users(); err != nil {
			return nil, wrap("Options.User", err)
		}
	}
	if opts.Codec == nil {
		opts.Codec = gobCodec{}
	}
	s := &Store{sessions: sessions, opts: opts, scheme: "scs:" + opts.Name}
	if opts.Old == nil {
		return s, nil
	}
	s.old = oldStore{opts.Old}
	if s.both, err = places.New(sessions, s.old, opts.Phase, s.form()); err != nil {
		return nil, wrap("new", err)
	}
	return s, nil
}

// Find implements scs.Store.
func (s *Store) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// FindCtx implements scs.CtxStore.
func (s *Store) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	key, _ := s.keyOf(token)
	if s.both != nil {
		b, found, err := s.both.Find(ctx, token, key)
		return b, found, wrap("find", err)
	}
	rec, err := s.sessions.Get(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound) || err == nil && rec.Key.Hash != key.Hash:
		return nil, false, nil
	case err != nil:
		return nil, false, wrap("find", err)
	}
	data, here := places.Here(rec.Data)
	_, blob, ok := split(data)
	return blob, here && ok, nil
}

// Commit implements scs.Store.
func (s *Store) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

// CommitCtx implements scs.CtxStore. A token that is new to the store makes a session.
func (s *Store) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	err := s.commit(ctx, token, b, expiry)
	if errors.Is(err, session.ErrNotFound) && !s.opts.FailDead {
		return nil
	}
	return wrap("commit", err)
}

func (s *Store) commit(ctx context.Context, token string, b []byte, expiry time.Time) error {
	key, own := s.keyOf(token)
	err := s.write(ctx, token, b, unversioned.Write{
		Key: key, Data: append(own[:], b...), Lasts: until(expiry),
		Same: func(data []byte) bool { return s.same(data, b) },
		About: func(isNew bool) (unversioned.About, error) {
			if isNew && s.listed.Load() {
				if err := s.refuseAlias(ctx, token); err != nil {
					return unversioned.About{}, err
				}
			}
			return s.about(b)
		},
	})
	if errors.Is(err, session.ErrUserChanged) {
		return fmt.Errorf("%w; RenewToken has to be called when a user logs in", err)
	}
	return err
}

func (s *Store) write(ctx context.Context, token string, b []byte, w unversioned.Write) error {
	if s.both != nil {
		return s.both.Commit(ctx, token, b, w)
	}
	_, err := s.sessions.Write(ctx, w)
	return err
}

// about reads what the store has to know from a session's values.
func (s *Store) about(b []byte) (about unversioned.About, err error) {
	about.Lifetime = s.opts.Lifetime
	deadline, values, err := s.opts.Codec.Decode(b)
	if err == nil && about.Lifetime == 0 && !deadline.IsZero() {
		about.Lifetime = until(deadline)
	}
	if s.opts.User == nil {
		return about, nil
	}
	if err != nil {
		return about, fmt.Errorf("decode whose session it is; is Options.Codec the manager's? %w", err)
	}
	about.User = s.stored(s.opts.User(values))
	return about, nil
}

// until is how long it is until t, and not zero.
func until(t time.Time) time.Duration {
	if d := time.Until(t); d > 0 {
		return d
	}
	return -1
}

// Delete implements scs.Store.
func (s *Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// DeleteCtx implements scs.CtxStore. It takes what All has returned too, hashed by scs
// or not.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	if token == "" { // of a session that was never committed
		return nil
	}
	key, _ := s.keyOf(token)
	n, err := s.end(ctx, token, key)
	if err == nil && n == 0 {
		_, err = s.sessions.Destroy(ctx, s.keysOfAlias(token)...)
	}
	return wrap("delete", err)
}

func (s *Store) end(ctx context.Context, token string, key session.Key) (int64, error) {
	if s.both != nil {
		return s.both.Delete(ctx, token, key)
	}
	return s.sessions.Destroy(ctx, key)
}

// All implements scs.IterableStore.
func (s *Store) All() (map[string][]byte, error) { return s.AllCtx(context.Background()) }

// AllCtx implements scs.IterableCtxStore. It holds all sessions in memory, as scs asks
// for. Their keys are aliases of the tokens, which the store does not know: Delete
// takes them, Find does not, and Commit refuses them with session.ErrInvalid. So
// Iterate may destroy sessions and cannot change them. Those that are in Options.Old
// come with their tokens, if that store can tell.
func (s *Store) AllCtx(ctx context.Context) (map[string][]byte, error) {
	s.listed.Store(true)
	all := map[string][]byte{}
	for rec, err := range s.sessions.All(ctx) {
		if err != nil {
			return nil, wrap("all", err)
		}
		data, here := places.Here(rec.Data)
		own, blob, ok := split(data)
		if here && ok && s.keyOfHashed(hashed(own.text())).Hash == rec.Key.Hash {
			all[own.text()] = blob
		}
	}
	if s.both == nil {
		return all, nil
	}
	old, err := s.old.all(ctx)
	if err != nil {
		return nil, wrap("all", err)
	}
	for token, blob := range old {
		key, _ := s.keyOf(token)
		if is, err := s.both.IsInOld(ctx, key); err != nil {
			return nil, wrap("all", err)
		} else if is {
			all[token] = blob
		}
	}
	return all, nil
}

// DestroyUser ends all sessions of a user on all nodes, except those of the tokens that
// are given, as SessionManager.Token returns them. It returns how many it has ended.
// The error is errors.ErrUnsupported if the session.Store is no session.UserIndex.
func (s *Store) DestroyUser(ctx context.Context, user string, except ...string) (int64, error) {
	users, err := s.sessions.Users()
	if err != nil {
		return 0, wrap("destroy a user's sessions", err)
	}
	var keys []session.Key
	for _, token := range except {
		plain, _ := s.keyOf(token)
		byHash, _ := s.keyOf(hashed(token)) // with HashTokenInStore
		keys = append(keys, plain, byHash)
	}
	n, err := users.DestroyUser(ctx, s.stored(user), keys...)
	return n, wrap("destroy a user's sessions", err)
}

// stored is how the session.Store knows a user, as with session.Options.Name.
func (s *Store) stored(user string) string {
	if user == "" || s.opts.Name == "" {
		return user
	}
	return s.opts.Name + "\x1f" + user
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("scsstore: %s: %w", op, err)
}

// An alias names a session to Delete and to nobody else. It is a hash of the token, and
// the key is made of what scs makes of the alias when it hashes tokens:
//
//	token ──▶ alias ──▶ scs's hash of the alias ──▶ key
//
// Each arrow is a SHA-256. So the store needs to keep no token to tell scs by which
// argument a session is deleted, and whoever reads the alias in the database cannot
// use it as a token.
type alias [sha256.Size]byte

// text is the shape that scs's tokens have.
func (a alias) text() string { return base64.RawURLEncoding.EncodeToString(a[:]) }

// keyOf returns the key of a token and its alias.
func (s *Store) keyOf(token string) (session.Key, alias) {
	a := alias(sha256.Sum256([]byte("sojourn:alias:" + s.scheme + ":" + token)))
	return s.keyOfHashed(hashed(a.text())), a
}

// keysOfAlias returns the keys that token may stand for if it is an alias, as it is or
// hashed by scs.
func (s *Store) keysOfAlias(token string) []session.Key {
	return []session.Key{s.keyOfHashed(hashed(token)), s.keyOfHashed(token)}
}

func (s *Store) keyOfHashed(token string) session.Key { return session.ForeignKey(s.scheme, token) }

// hashed is what scs makes of a token with HashTokenInStore.
func hashed(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// refuseAlias keeps Iterate from making a session of which an alias is the token.
func (s *Store) refuseAlias(ctx context.Context, token string) error {
	for _, key := range s.keysOfAlias(token) {
		_, err := s.sessions.Get(ctx, key)
		switch {
		case err == nil:
			return fmt.Errorf("%w: what Iterate gives can be destroyed and not changed", session.ErrInvalid)
		case !errors.Is(err, session.ErrNotFound):
			return err
		}
	}
	return nil
}

// split takes apart what the store keeps.
func split(data []byte) (a alias, blob []byte, ok bool) {
	if len(data) < len(a) {
		return a, nil, false
	}
	return alias(data[:len(a)]), data[len(a):], true
}
