package pgstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// node opens a store with a pool of its own. Its connections bear p's id
// and, after a dot, the name of the node.
func (p place) node(t testing.TB, opts Options, conns int32, mods ...func(*pgxpool.Config)) *Store {
	t.Helper()
	p.pool = dbtest.Pool(t, p.dsn, func(c *pgxpool.Config) {
		c.MaxConns = conns
		c.ConnConfig.RuntimeParams["application_name"] = p.id() + "." + opts.NodeName
		p.asNode(c)
		for _, mod := range mods {
			mod(c)
		}
	})
	if opts.PruneInterval == 0 {
		opts.PruneInterval = -1
	}
	return p.open(t, opts)
}

// brittle opens a store whose connections all go through a proxy. Its pool has
// one connection, and so has each of its own that is in use. It gives up only
// connections that are broken: a busy server is late with its answer.
func (p place) brittle(t testing.TB, opts Options, mods ...func(*pgxpool.Config)) (*Store, *faultproxy.Proxy) {
	t.Helper()
	proxy, dsn := dbtest.Proxy(t, p.dsn)
	p.dsn = dsn
	opts.unhurried = true
	return p.node(t, opts, 1, mods...), proxy
}

// blocked is how many connections of the stores of p.node wait for a lock.
func blocked(t testing.TB, p place) int {
	t.Helper()
	return query[int](t, p, `SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, $1 || '.') AND wait_event_type = 'Lock'`, p.id())
}

// stored is what the table holds of a key.
type stored struct {
	Version   int64
	Live      bool
	Ended     bool
	Expires   time.Time
	User      string
	Data      []byte
	RenewedTo []byte
}

// rowOf reads around all stores. It is nil where there is no row.
func rowOf(t testing.TB, p place, key session.Key) *stored {
	t.Helper()
	var r stored
	err := p.pool.QueryRow(t.Context(), `
SELECT version, ended_at IS NULL AND expires_at > clock_timestamp(), ended_at IS NOT NULL, expires_at, coalesce(user_id, ''), data, renewed_to
FROM `+p.schema+`.sessions WHERE key = $1`, key.Hash[:]).
		Scan(&r.Version, &r.Live, &r.Ended, &r.Expires, &r.User, &r.Data, &r.RenewedTo)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func isLive(t testing.TB, p place, key session.Key) bool {
	t.Helper()
	r := rowOf(t, p, key)
	return r != nil && r.Live
}

// holdConns takes all connections of pools.
func holdConns(t testing.TB, pools ...*pgxpool.Pool) (release func()) {
	t.Helper()
	var conns []*pgxpool.Conn
	release = sync.OnceFunc(func() {
		for _, c := range conns {
			c.Release()
		}
	})
	t.Cleanup(release)
	for _, pool := range pools {
		for range pool.Config().MaxConns {
			c, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
	}
	return release
}

// holdRoad takes all connections that statements of a road could have, so that
// what they send waits.
func holdRoad(t testing.TB, r db.Road) (release func()) {
	t.Helper()
	if r.Control {
		return holdConns(t, r.App, r.Own)
	}
	free := holdPlaces(t, r.Spare)
	conns := holdConns(t, r.App)
	return func() { conns(); free() }
}

// holdPlaces takes all places of which there are so many.
func holdPlaces(t testing.TB, places chan struct{}) (release func()) {
	for range cap(places) {
		places <- struct{}{}
	}
	release = sync.OnceFunc(func() {
		for range cap(places) {
			<-places
		}
	})
	t.Cleanup(release)
	return release
}

// holdLane is holdRoad for the road of a lane, which does not go on with the next
// batch meanwhile.
func holdLane(t testing.TB, l *batch.Lane) (release func()) {
	t.Helper()
	stay, road := holdPlaces(t, l.Overdue), holdRoad(t, l.Road)
	return func() { road(); stay() }
}

// foreign begins a transaction that no store knows of, and runs a statement.
func (p place) foreign(t testing.TB, sql string, args ...any) (tx pgx.Tx, commit func()) {
	t.Helper()
	conn := dbtest.Conn(t, p.dsn)
	tx, err := conn.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), sql, args...)
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	commit = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		if err := tx.Commit(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(commit)
	return tx, commit
}

// lockRows holds the rows of keys as a transaction of others does.
func (p place) lockRows(t testing.TB, keys ...session.Key) (tx pgx.Tx, commit func()) {
	t.Helper()
	hashes := make([][]byte, len(keys))
	for i := range keys {
		hashes[i] = keys[i].Hash[:]
	}
	return p.foreign(t, `SELECT FROM `+p.schema+`.sessions WHERE key = ANY ($1) FOR UPDATE`, hashes)
}

// queued is how many writes wait to be taken by a lane, taken how many it has
// not let go of.
func queued(l *batch.Lane) int {
	waits, _ := l.Len()
	return waits
}

func taken(l *batch.Lane) int {
	_, busy := l.Len()
	return busy
}

// oneBatch makes a lane write ops together: behind first, which waits for a
// connection until all of them are queued. It returns the results of ops.
func oneBatch(t testing.TB, l *batch.Lane, first func() error, ops ...func() error) []<-chan error {
	t.Helper()
	release := holdLane(t, l)
	defer release()
	before := async(first)
	dbtest.Eventually(t, "the first write was taken", func() bool { return taken(l) == 1 && queued(l) == 0 })
	out := make([]<-chan error, len(ops))
	for i, op := range ops {
		out[i] = async(op)
		dbtest.Eventually(t, "the write was queued", func() bool { return queued(l) == i+1 })
	}
	release()
	if err := <-before; err != nil {
		t.Fatal("the first write:", err)
	}
	return out
}

func async(op func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- op() }()
	return done
}

// results waits for results.
func results(of []<-chan error) []error {
	out := make([]error, len(of))
	for i, r := range of {
		out[i] = <-r
	}
	return out
}

func saving(s *Store, rec session.Record, data string) func() error {
	rec.Data = []byte(data)
	return func() error {
		_, err := s.Save(context.Background(), rec)
		return err
	}
}

// pending fails the test if a result is there already.
func pending(t testing.TB, what string, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		t.Fatalf("%s did not wait: %v", what, err)
	default:
	}
}

// wantErr fails the test unless err is one of want; a nil want means success.
func wantErr(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if err == nil && w == nil || w != nil && errors.Is(err, w) {
			return
		}
	}
	t.Errorf("%s: %v; want %v", what, err, want)
}

// mentions is a condition for a proxy's trigger: bytes of a session's key.
func mentions(key session.Key) func([]byte) bool {
	return func(stream []byte) bool {
		return bytes.Contains(stream, key.Hash[:]) || bytes.Contains(stream, []byte(hex.EncodeToString(key.Hash[:])))
	}
}

// commits is a condition for a proxy's trigger: the end of a transaction.
func commits(stream []byte) bool {
	return bytes.Contains(stream, []byte("Q\x00\x00\x00\x0bcommit\x00")) ||
		bytes.Contains(stream, []byte("sojourn_")) && !beats(stream) // the channel: it is notified at last
}

// beats reports whether a heartbeat is sent, which is notified on the channel
// too: as a parameter of 24 bytes, or in the text of a statement.
func beats(stream []byte) bool {
	return bytes.Contains(stream, []byte("\x00\x00\x00\x181h")) || bytes.Contains(stream, []byte("'1h"))
}

// quiesce waits until the server has dealt with all that connections which
// were cut had sent.
func quiesce(t testing.TB, p place, s *Store, proxy *faultproxy.Proxy) {
	t.Helper()
	name := s.pool.Config().ConnConfig.RuntimeParams["application_name"]
	dbtest.Eventually(t, "the server is done with lost connections", func() bool {
		return query[int](t, p, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, name) <= proxy.Connections()
	})
}

// mend replaces all connections of a brittle store and waits until the server
// has dealt with the lost ones.
func mend(t testing.TB, p place, s *Store, proxy *faultproxy.Proxy) {
	t.Helper()
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	proxy.CutAll()
	dbtest.Eventually(t, "the store has new connections", func() bool {
		_, err := s.Len(t.Context())
		_, controlErr := s.table.Refresh(t.Context())
		return err == nil && controlErr == nil
	})
	quiesce(t, p, s, proxy)
}
