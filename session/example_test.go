package session_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// A session's life: it is created, used, renewed when its user logs in, and
// ended. What comes late does not bring it back.
func Example() {
	ctx := context.Background()
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)

	deadline := store.Now().Add(12 * time.Hour)
	visit, err := store.Create(ctx, session.Record{
		Key:      session.NewID(deadline).Key(), // the ID itself goes to the browser
		Expires:  store.Now().Add(30 * time.Minute),
		Deadline: deadline,
		Data:     []byte("cart: 1 book"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("anonymous: %s\n", visit.Data)

	slow := visit // another request reads the session and takes its time

	login := visit
	login.Key, login.User = session.NewID(deadline).Key(), "alice"
	login, err = store.Renew(ctx, visit.Key, login, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s\n", login.User, login.Data)

	_, err = store.Save(ctx, slow)
	fmt.Println("late save:", errors.Is(err, session.ErrNotFound))

	ended, err := store.Destroy(ctx, login.Key)
	fmt.Println("ended:", ended, err)
	_, err = store.Get(ctx, login.Key)
	fmt.Println("gone:", errors.Is(err, session.ErrNotFound))
	// Output:
	// anonymous: cart: 1 book
	// alice: cart: 1 book
	// late save: true
	// ended: 1 <nil>
	// gone: true
}

// Of two requests that change the same session one is told to read it again.
func ExampleStore_save() {
	ctx := context.Background()
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)
	deadline := store.Now().Add(time.Hour)
	rec, err := store.Create(ctx, session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline})
	if err != nil {
		fmt.Println(err)
		return
	}

	mine, theirs := rec, rec
	theirs.Data = []byte("theirs")
	if _, err := store.Save(ctx, theirs); err != nil {
		fmt.Println(err)
	}
	for {
		mine.Data = append(mine.Data[:len(mine.Data):len(mine.Data)], " and mine"...)
		_, err := store.Save(ctx, mine)
		if err == nil {
			break
		}
		fmt.Println("conflict:", errors.Is(err, session.ErrConflict))
		if mine, err = store.Get(ctx, rec.Key); err != nil {
			fmt.Println(err)
			return
		}
	}
	got, err := store.Get(ctx, rec.Key)
	fmt.Printf("%s, %v\n", got.Data, err)
	// Output:
	// conflict: true
	// theirs and mine, <nil>
}

// The text of an ID is for the browser; whatever else prints it gets a
// placeholder.
func ExampleID() {
	deadline := time.Now().Add(12 * time.Hour)
	id := session.NewID(deadline)
	cookie := id.Secret()
	fmt.Println(len(cookie), id)

	// The next request brings the cookie back.
	again, err := session.ParseID(cookie)
	fmt.Println(again == id, err)

	_, err = session.ParseID("PHPSESSID")
	fmt.Println(err)
	// Output:
	// 48 session.ID(redacted)
	// true <nil>
	// session: invalid ID: it has 9 bytes instead of 48
}

// Tokens of another library become keys that stores can search for.
func ExampleForeignKey() {
	key := session.ForeignKey("scs", "its-token")
	fmt.Println(key.Bucket, key == session.ForeignKey("scs", "its-token"), key == session.ForeignKey("gorilla", "its-token"))
	// Output: 0 true false
}

func ExampleBucketOf() {
	deadline := time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)
	bucket := session.BucketOf(deadline)
	fmt.Println(bucket, time.Unix(int64(bucket)*3600, 0).UTC())
	// Output: 498707 2026-11-22 11:00:00 +0000 UTC
}
