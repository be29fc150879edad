package session_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// An interceptor of gRPC: the client sends its token with each call, and gets another
// one with the answer.
func ExampleManager_Open() {
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(context.Background())
	sessions, err := session.NewManager(store, session.Options{})
	if err != nil {
		log.Fatal(err)
	}
	calls := session.NewValue[int]("calls")

	call := func(token string, method func(context.Context) error) (string, error) {
		ctx := context.Background()
		s, err := sessions.Open(ctx, token)
		if err != nil {
			return "", err // codes.Unauthenticated, if it is session.ErrNotFound
		}
		if err := method(session.NewContext(ctx, s)); err != nil {
			return "", err // nothing is saved
		}
		if err := s.End(ctx); err != nil {
			return "", err
		}
		return s.Token().Text(), nil
	}
	login := func(ctx context.Context) error {
		s, err := session.FromContext(ctx)
		if err != nil {
			return err
		}
		return s.Login(ctx, "alice", session.Login{})
	}
	count := func(ctx context.Context) error {
		s, err := session.FromContext(ctx)
		if err != nil {
			return err
		}
		if err := calls.Update(s, func(n int) int { return n + 1 }); err != nil {
			return err
		}
		n, err := calls.Get(s)
		fmt.Println(s.User(), n)
		return err
	}

	token, err := call("", login)
	for range 2 {
		if err != nil {
			log.Fatal(err)
		}
		token, err = call(token, count)
	}
	_, err = call("nonsense", count)
	fmt.Println(errors.Is(err, session.ErrNotFound))
	// Output:
	// alice 1
	// alice 2
	// true
}

func ExampleManager_ChangeUser() {
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(context.Background())
	sessions, err := session.NewManager(store, session.Options{})
	if err != nil {
		log.Fatal(err)
	}
	role := session.NewValue[string]("role").Or("reader")

	s, err := sessions.Open(context.Background(), "")
	if err != nil {
		log.Fatal(err)
	}
	err = errors.Join(s.Login(context.Background(), "alice", session.Login{}), s.End(context.Background()))
	if err != nil {
		log.Fatal(err)
	}

	// The database says first that alice is an editor: so will her next login.
	done, err := sessions.ChangeUser(context.Background(), "alice", func(s *session.Session) error {
		return role.Set(s, "editor")
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(done.Changed), "changed")
	// Output: 1 changed
}
