package pgstore

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/session"
)

// Rows that others hold, for however long, are waited for beside the lane.
func TestALockedRowHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[1:] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{WriteTimeout: time.Minute}, 8)
			recs := createN(t, s, 40)
			_, commit := p.lockRows(t, recs[3].Key)
			ops := w.each(s, recs)
			got := oneBatch(t, w.lane(s), ops[0], ops[1:20]...)
			for i, r := range got {
				if i+1 != 3 {
					wantErr(t, "write of a free row in the same batch", <-r, nil)
				}
			}
			for _, op := range ops[20:] {
				wantErr(t, "write of a free row", op(), nil)
			}
			pending(t, "the write of the locked row", got[2])
			commit()
			wantErr(t, "write of the locked row", <-got[2], nil)
		})
	}
}

// What waits in one group must not wait for the longest of all its locks, nor
// must many that wait keep others from waiting.
func TestLockedRowsAreWaitedForOneByOne(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[1:] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{WriteTimeout: time.Minute}, 8)
			recs := createN(t, s, 14)
			var long []session.Key
			for _, rec := range recs[1:7] {
				long = append(long, rec.Key)
			}
			_, commitLong := p.lockRows(t, long...)
			_, commitShort := p.lockRows(t, recs[7].Key, recs[8].Key)
			ops := w.each(s, recs[:9])
			got := oneBatch(t, w.lane(s), ops[0], ops[1:]...)
			dbtest.Eventually(t, "a write waits", func() bool { return blocked(t, p) > 0 })
			commitShort()
			wantErr(t, "write of a row that is free again", <-got[6], nil)
			wantErr(t, "write of a row that is free again", <-got[7], nil)
			for _, rec := range recs[9:13] {
				_, commit := p.lockRows(t, rec.Key)
				later := async(func() error { return w.do(context.Background(), s, rec) })
				dbtest.Eventually(t, "the write was taken", func() bool { return queued(w.lane(s)) == 0 })
				commit()
				wantErr(t, "write that had to wait later", <-later, nil)
			}
			for _, r := range got[:6] {
				pending(t, "the write of a locked row", r)
			}
			commitLong()
			for _, err := range results(got[:6]) {
				wantErr(t, "write of a row that was locked for long", err, nil)
			}
		})
	}
}

func TestAWriteWaitsNoLongerThanTheWriteTimeout(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[1:] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{WriteTimeout: 15 * time.Second}, 4)
			rec := create(t, s, "")
			_, commit := p.lockRows(t, rec.Key)
			err := w.do(t.Context(), s, rec)
			wantErr(t, w.kind, err, context.DeadlineExceeded)
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte("WriteTimeout")) {
				t.Errorf("the error does not name Options.WriteTimeout: %v", err)
			}
			if errors.Is(err, session.ErrUnknown) {
				t.Errorf("the server had said that the row stayed locked: %v", err)
			}
			commit()
			dbtest.Eventually(t, "nobody waits", func() bool { return blocked(t, p) == 0 })
			if got, err := s.Get(t.Context(), rec.Key); err != nil || got.Version != rec.Version || !got.Expires.Equal(rec.Expires) {
				t.Errorf("it was written all the same: %+v, %v", got, err)
			}
		})
	}
}

// A caller's deadline may leave a small part of the write timeout.
func TestACallerWithADeadlineWaitsForALock(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Save", "Touch", "Destroy", "Put", "Renew", "RenewLimited", "CreateLimited", "DestroyUser", "Clear"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{WriteTimeout: time.Hour}, 4)
			rec := create(t, s, "ada")
			_, commit := p.lockRows(t, rec.Key)
			held := p.holdStripe(t, s, "ada")
			got := async(func() error { return anyCalls(s, rec)[name](within(t)) })
			retries := s.Stats().Retries
			dbtest.Eventually(t, "it was tried again", func() bool {
				pending(t, name, got)
				return s.Stats().Retries >= retries+3
			})
			commit()
			held()
			wantErr(t, name, <-got, nil)
		})
	}
}

// holdStripe does what DestroyUser does first.
func (p place) holdStripe(t testing.TB, s *Store, user string) (commit func()) {
	t.Helper()
	_, commit = p.foreign(t, `SELECT pg_advisory_xact_lock($1::integer, $2::integer)`, s.lockClass, batch.StripeOf(user))
	return commit
}

func TestAHeldStripeHoldsUpNoOtherUsers(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{WriteTimeout: time.Minute}, 8)
	creating := func(user string) func() error {
		rec := fresh(s, user)
		return func() error {
			_, err := s.Create(context.Background(), rec)
			return err
		}
	}
	if batch.StripeOf("ada") == batch.StripeOf("bob") || batch.StripeOf("eve") == batch.StripeOf("bob") || batch.StripeOf("ada") == batch.StripeOf("eve") {
		t.Fatal("these users share a stripe; choose others")
	}
	long := p.holdStripe(t, s, "ada")
	short := p.holdStripe(t, s, "bob")
	got := oneBatch(t, s.writes.Creates, creating(""), creating("ada"), creating("bob"), creating("eve"), creating(""))
	wantErr(t, "create for another user", <-got[2], nil)
	wantErr(t, "create for nobody", <-got[3], nil)
	for range 5 {
		wantErr(t, "create for another user", creating("eve")(), nil)
	}
	pending(t, "create for a user with a held stripe", got[0])
	pending(t, "create for a user with a held stripe", got[1])
	short()
	wantErr(t, "create for a user whose stripe is free again", <-got[1], nil)
	pending(t, "create for a user with a held stripe", got[0])
	long()
	wantErr(t, "create", <-got[0], nil)
}

func TestADestroyOvertakesWaitingWrites(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{}, 2)
	lone, rec := create(t, s, ""), create(t, s, "")
	release := holdLane(t, s.writes.Saves)
	first := async(saving(s, lone, ""))
	dbtest.Eventually(t, "the first save was taken", func() bool { return taken(s.writes.Saves) == 1 })
	waiting := async(saving(s, rec, "late"))
	dbtest.Eventually(t, "the save was queued", func() bool { return queued(s.writes.Saves) == 1 })

	n, err := s.Destroy(t.Context(), rec.Key)
	if n != 1 || err != nil {
		t.Fatalf("destroy: %d, %v", n, err)
	}
	wantErr(t, "the save that was overtaken", <-waiting, session.ErrNotFound)
	pending(t, "the save of another key", first)
	release()
	wantErr(t, "the save of another key", <-first, nil)
	if isLive(t, p, rec.Key) {
		t.Error("the session is live")
	}
}

func TestAWriteThatIsGivenUpBeforeItsTurnIsNotWritten(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{}, 2)
	lone, rec := create(t, s, ""), create(t, s, "")
	release := holdLane(t, s.writes.Saves)
	first := async(saving(s, lone, ""))
	dbtest.Eventually(t, "the first save was taken", func() bool { return taken(s.writes.Saves) == 1 })

	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the reason")
	waiting := async(func() error { _, err := s.Save(ctx, rec); return err })
	dbtest.Eventually(t, "the save was queued", func() bool { return queued(s.writes.Saves) == 1 })
	cancel(reason)
	err := <-waiting
	wantErr(t, "the save that was given up", err, reason)
	if errors.Is(err, session.ErrUnknown) {
		t.Errorf("a save that was not sent is said to be unknown: %v", err)
	}
	release()
	wantErr(t, "the save of another key", <-first, nil)
	wantErr(t, "a save of the same version", saving(s, rec, "")(), nil)
}

func TestAWriteThatIsGivenUpLaterIsUnknown(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[1:] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{}, 4)
			rec := create(t, s, "")
			_, commit := p.lockRows(t, rec.Key)
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("the reason")
			result := async(func() error { return w.do(ctx, s, rec) })
			dbtest.Eventually(t, "it was taken", func() bool { return taken(w.lane(s)) == 1 })
			cancel(reason)
			err := <-result
			wantErr(t, w.kind, err, session.ErrUnknown)
			wantErr(t, w.kind, err, reason)
			commit()
		})
	}
}

func TestCloseWaitsForWritesUnderWay(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites() {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{}, 2)
			recs := createN(t, s, 30)
			var got []<-chan error
			release := holdLane(t, w.lane(s))
			for i, op := range w.each(s, recs) {
				got = append(got, async(op))
				dbtest.Eventually(t, "it was accepted", func() bool { return taken(w.lane(s))+queued(w.lane(s)) == i+1 })
			}
			closed := async(func() error { return s.Close(context.Background()) })
			dbtest.Eventually(t, "the store is closed", s.closed.Load)
			wantErr(t, "a write after Close", w.do(t.Context(), s, recs[0]), session.ErrClosed)
			pending(t, "Close", closed)
			release()
			for _, err := range results(got) {
				wantErr(t, "a write under way", err, nil)
			}
			wantErr(t, "Close", <-closed, nil)
			for _, rec := range recs {
				if r := rowOf(t, p, rec.Key); w.kind == "destroy" && r.Live || w.kind == "save" && r.Version <= rec.Version {
					t.Errorf("it was not written: %+v", r)
				}
			}
		})
	}
}

func TestCloseWaitsForWritesThatWaitForOthers(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{WriteTimeout: time.Minute}, 4)
	rec := create(t, s, "")
	_, commit := p.lockRows(t, rec.Key)
	first := async(saving(s, rec, "first"))
	dbtest.Eventually(t, "the first save waits beside the lane", func() bool { return blocked(t, p) == 1 && s.conns.Retries.Load() > 0 })
	second := async(saving(s, rec, "second"))
	dbtest.Eventually(t, "the second save waits for the first", func() bool { return queued(s.writes.Saves) == 1 })
	closed := async(func() error { return s.Close(context.Background()) })
	dbtest.Eventually(t, "the lane is closed", func() bool {
		return s.writes.Saves.Start(t.Context(), &batch.Op{Key: session.NewID(rec.Deadline).Key()}) != nil
	})
	pending(t, "Close", closed)
	commit()
	wantErr(t, "Close", <-closed, nil)
	for result, want := range map[<-chan error]error{first: nil, second: session.ErrConflict} {
		select {
		case err := <-result:
			wantErr(t, "a write under way", err, want)
		case <-time.After(dbtest.Patience):
			t.Fatal("a write was forgotten")
		}
	}
}

func TestCloseThatGivesUpEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{WriteTimeout: time.Hour}, 4)
	rec := create(t, s, "")
	_, commit := p.lockRows(t, rec.Key)
	result := async(saving(s, rec, "late"))
	dbtest.Eventually(t, "the save waits", func() bool { return blocked(t, p) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	closed := async(func() error { return s.Close(ctx) })
	dbtest.Eventually(t, "the store is closed", s.closed.Load)
	pending(t, "Close", closed)
	cancel()
	wantErr(t, "Close", <-closed, context.Canceled)
	wantErr(t, "the save under way", <-result, session.ErrClosed)
	commit()
	wantErr(t, "Close again", s.Close(t.Context()), nil)
}

// The time is looked at after the wait, in a batch too.
func TestABatchThatWaitedPastAnExpiryRefusesThatSession(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites()[1:] {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{WriteTimeout: time.Minute}, 4)
			recs := createN(t, s, 5)
			table := p.schema + ".sessions"
			// One is changed by who holds it, one runs out by itself.
			changed, over := recs[2].Key, recs[3].Key
			p.exec(t, `UPDATE `+table+` SET expires_at = clock_timestamp() + interval '400ms' WHERE key = $1`, over.Hash[:])
			tx, commit := p.lockRows(t, recs[1].Key, changed, over)
			ops := w.each(s, recs)
			got := oneBatch(t, w.lane(s), ops[0], ops[1:]...)
			// The first try may win against an expiry in the 50 ms that it waits.
			dbtest.Eventually(t, "the batch waits for locks alone", func() bool {
				return query[bool](t, p, `SELECT EXISTS (SELECT FROM pg_stat_activity
WHERE starts_with(application_name, $1 || '.') AND wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%' AND query NOT LIKE '%SET %')`, p.id())
			})
			expire(t, tx, p, changed)
			dbtest.Eventually(t, "the other one has run out", func() bool {
				return query[bool](t, p, `SELECT expires_at < clock_timestamp() FROM `+table+` WHERE key = $1`, over.Hash[:])
			})
			commit()
			wantErr(t, "a row that was locked", <-got[0], nil)
			wantErr(t, "a row that was free", <-got[3], nil)
			for i, key := range []session.Key{changed, over} {
				if err := <-got[1+i]; w.kind == "destroy" {
					if err == nil || err.Error() != "0 were live" {
						t.Errorf("a session that expired meanwhile: %v", err)
					}
				} else {
					wantErr(t, "a session that expired meanwhile", err, session.ErrNotFound)
				}
				if isLive(t, p, key) {
					t.Error("the expired session is live again")
				}
			}
		})
	}
}

func expire(t testing.TB, tx pgx.Tx, p place, key session.Key) {
	t.Helper()
	tag, err := tx.Exec(t.Context(), `UPDATE `+p.schema+`.sessions SET expires_at = clock_timestamp() WHERE key = $1`, key.Hash[:])
	if err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("expire: %v, %v", tag, err)
	}
}
