package sqlitestore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// child is what another process of a test does. Its job is a word and the file.
func child(job string) int {
	word, path, _ := strings.Cut(job, " ")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := Open(ctx, path, Options{PruneInterval: 20 * time.Millisecond})
	if err == nil {
		switch word {
		case "write":
			err = childWrites(ctx, s)
		case "count":
			err = childCounts(ctx, s)
		case "hold":
			err = childHolds(ctx, s)
		default:
			err = fmt.Errorf("no such job")
		}
	}
	if err == nil {
		err = s.Close(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a child, whose lines the test reads.
type process struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr strings.Builder
}

func startChild(t testing.TB, job string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.Env = append(os.Environ(), childEnv+"="+job)
	p.Cmd.Stderr = &p.stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	return p
}

// kill is kill -9. What the process has printed before can still be read.
func (p *process) kill(t testing.TB) {
	t.Helper()
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// Each session of a child that writes is written so often, and is then destroyed
// if its number is even. Its data ends with how often it was.
const lastWrite = 4

// childWrites prints a line for each write that was acknowledged.
func childWrites(ctx context.Context, s *Store) error {
	var mu sync.Mutex
	say := func(rec session.Record, what string, writes int) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Printf("%s %x %d %d\n", what, rec.Key.Hash, rec.Key.Bucket, writes)
		return err
	}
	errs := make(chan error)
	for range 4 {
		go func() { errs <- childWritesAlone(ctx, s, say) }()
	}
	return <-errs
}

func childWritesAlone(ctx context.Context, s *Store, say func(rec session.Record, what string, writes int) error) error {
	for n := 0; ; n++ {
		rec, err := s.Create(ctx, newSession(s, strconv.Itoa(n)+" 1"))
		writes := 1
		for err == nil && writes < lastWrite {
			if err = say(rec, "written", writes); err == nil {
				writes++
				rec.Data = fmt.Appendf(nil, "%d %d", n, writes)
				rec, err = s.Save(ctx, rec)
			}
		}
		if err == nil {
			err = say(rec, "written", writes)
		}
		if err == nil && n%2 == 0 {
			if _, err = s.Destroy(ctx, rec.Key); err == nil {
				err = say(rec, "destroyed", writes)
			}
		}
		if err != nil {
			return err
		}
	}
}

// acknowledged is what a child has said of its sessions.
type acknowledged map[session.Key]struct {
	writes    int
	destroyed bool
}

// read takes lines until there are none, or enough.
func (a acknowledged) read(t testing.TB, p *process, enough int) (n int) {
	t.Helper()
	for n < enough && p.lines.Scan() {
		var what string
		var hash []byte
		var key session.Key
		var writes int
		if _, err := fmt.Sscanf(p.lines.Text(), "%s %x %d %d", &what, &hash, &key.Bucket, &writes); err != nil || len(hash) != 32 {
			continue // cut off by the kill
		}
		key.Hash = [32]byte(hash)
		at := a[key]
		at.writes, at.destroyed = writes, what == "destroyed"
		a[key] = at
		n++
	}
	return n
}

// check looks for everything that was acknowledged.
func (a acknowledged) check(t testing.TB, s *Store) {
	t.Helper()
	for key, at := range a {
		rec, err := s.Get(context.Background(), key)
		switch {
		case at.destroyed && err == nil:
			t.Errorf("a destroyed session lives again: %q", rec.Data)
		case at.destroyed:
		case err != nil && at.writes < lastWrite:
			t.Errorf("write %d to a session was acknowledged; now: %v", at.writes, err)
		case err == nil:
			_, written, _ := strings.Cut(string(rec.Data), " ")
			if n, err := strconv.Atoi(written); err != nil || n < at.writes || n > at.writes+1 {
				t.Errorf("write %d was acknowledged; there is %q", at.writes, rec.Data)
			}
		}
	}
}
