package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

// A process that is killed while it writes loses nothing that it was told is
// written, and the file stays whole.
func TestKilledProcessesLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	beside := openStore(t, path, quiet) // so that a process reads all the time
	total := acknowledged{}
	times := rounds.Of(100)
	for range times {
		p := startChild(t, "write "+path)
		acks := acknowledged{}
		n := acks.read(t, p, 1+rand.IntN(60))
		p.kill(t)
		n += acks.read(t, p, 1<<30)
		err := p.Wait()
		if n == 0 {
			t.Fatalf("the process wrote nothing: %v: %s", err, p.stderr.String())
		}
		acks.check(t, beside)
		for key, at := range acks {
			total[key] = at
		}
		if t.Failed() {
			break
		}
	}
	integrity(t, beside)
	closeStore(t, beside)
	again := openStore(t, path, quiet)
	total.check(t, again)
	integrity(t, again)
	if len(total) < times {
		t.Errorf("only %d sessions were written", len(total))
	}
}

// The same, with nobody else there: the next one to open the file recovers it.
func TestTheNextProcessRecoversTheFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	for range 10 {
		p := startChild(t, "write "+path)
		acks := acknowledged{}
		acks.read(t, p, 1+rand.IntN(60))
		p.kill(t)
		acks.read(t, p, 1<<30)
		_ = p.Wait() // it was killed
		s := openStore(t, path, quiet)
		acks.check(t, s)
		integrity(t, s)
		closeStore(t, s)
	}
}

const (
	counters4 = 4   // sessions
	counts    = 100 // by each process
)

func counterKey(n int) session.Key { return session.ForeignKey("count", strconv.Itoa(n)) }

// childCounts increments counters that other processes increment as well.
func childCounts(ctx context.Context, s *Store) error {
	for i := range counts {
		key := counterKey(i % counters4)
		for {
			rec, err := s.Get(ctx, key)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(rec.Data))
			if err != nil {
				return err
			}
			rec.Data = []byte(strconv.Itoa(n + 1))
			if _, err = s.Save(ctx, rec); err == nil {
				break
			} else if !errors.Is(err, session.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

func TestProcessesLoseNoUpdates(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, Options{})
	for n := range counters4 {
		rec := newSession(s, "0")
		rec.Key = counterKey(n)
		create(t, s, rec)
	}
	const processes = 4
	killed := startChild(t, "write "+path) // one more, which dies on the way
	var children []*process
	for range processes {
		children = append(children, startChild(t, "count "+path))
	}
	(acknowledged{}).read(t, killed, 20)
	killed.kill(t)
	_ = killed.Wait()
	for _, p := range children {
		for p.lines.Scan() {
		}
		if err := p.Wait(); err != nil {
			t.Errorf("%v: %s", err, p.stderr.String())
		}
	}
	sum := 0
	for n := range counters4 {
		rec, err := s.Get(t.Context(), counterKey(n))
		if err != nil {
			t.Fatal(err)
		}
		value, err := strconv.Atoi(string(rec.Data))
		if err != nil {
			t.Error(err)
		}
		sum += value
	}
	if sum != processes*counts {
		t.Errorf("%d increments were acknowledged; the sum is %d", processes*counts, sum)
	}
	integrity(t, s)
}

// childHolds takes the write lock and keeps it.
func childHolds(ctx context.Context, s *Store) error {
	if err := s.StopPruning(ctx); err != nil { // which uses the connection too
		return err
	}
	if err := s.writer.begin(); err != nil {
		return err
	}
	if _, err := s.writer.conn.sql.ExecContext(context.Background(), `UPDATE sojourn_sessions SET data = x'00'`); err != nil {
		return err
	}
	if _, err := fmt.Println("held"); err != nil {
		return err
	}
	select {}
}

// When the process that holds the write lock is killed, the others go on, and
// what it had begun has not happened.
func TestTheLockOfAKilledProcessIsFree(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := openStore(t, path, quiet)
	rec := create(t, s, newSession(s, "data"))
	p := startChild(t, "hold "+path)
	if !p.lines.Scan() {
		err := p.Wait()
		t.Fatalf("%v: %s", err, p.stderr.String())
	}
	done := make(chan error, 1)
	go func() { _, err := s.Save(t.Context(), rec); done <- err }()
	await.True(t, "a write waits", func() bool { return s.Stats().Retries > 0 })
	if got, err := s.Get(t.Context(), rec.Key); err != nil || string(got.Data) != "data" {
		t.Errorf("Get meanwhile = %q, %v", got.Data, err)
	}
	p.kill(t)
	_ = p.Wait()
	if err := <-done; err != nil {
		t.Errorf("Save: %v", err)
	}
	if got, err := s.Get(t.Context(), rec.Key); err != nil || string(got.Data) != "data" || got.Version <= rec.Version {
		t.Errorf("Get = %q, version %d, %v", got.Data, got.Version, err)
	}
}
