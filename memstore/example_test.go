package memstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// Log a user out everywhere but here.
func ExampleStore_DestroyUser() {
	ctx := context.Background()
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)

	deadline := store.Now().Add(24 * time.Hour)
	var here session.Key
	for _, device := range []string{"phone", "tablet", "desktop"} {
		here = session.NewID(deadline).Key()
		rec := session.Record{Key: here, Deadline: deadline, User: "alice", Data: []byte(device)}
		if _, err := store.Create(ctx, rec); err != nil {
			fmt.Println(err)
			return
		}
	}
	ended, err := store.DestroyUser(ctx, "alice", here)
	fmt.Println("ended:", ended, err)

	left, err := store.ListUser(ctx, "alice", session.Record{}, 1000)
	for _, rec := range left {
		fmt.Printf("left: %s, %v\n", rec.Data, err)
	}
	// Output:
	// ended: 2 <nil>
	// left: desktop, <nil>
}

// Let a user have two sessions at a time; the oldest makes room.
func ExampleStore_CreateLimited() {
	ctx := context.Background()
	store, err := memstore.New(memstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)

	deadline := store.Now().Add(24 * time.Hour)
	limit := session.UserLimit{Max: 2, Evict: true}
	for _, device := range []string{"phone", "tablet", "desktop"} {
		rec := session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, User: "alice", Data: []byte(device)}
		_, evicted, err := store.CreateLimited(ctx, rec, limit)
		fmt.Println(device, len(evicted), err)
	}
	// Output:
	// phone 0 <nil>
	// tablet 0 <nil>
	// desktop 1 <nil>
}

// Tell in a log why a session is not found.
func ExampleStore_Fate() {
	ctx := context.Background()
	now := time.Now()
	store, err := memstore.New(memstore.Options{Now: func() time.Time { return now }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)

	deadline := store.Now().Add(24 * time.Hour)
	idle := store.Now().Add(30 * time.Minute)
	left, loggedOut, never := session.NewID(deadline).Key(), session.NewID(deadline).Key(), session.NewID(deadline).Key()
	for _, key := range []session.Key{left, loggedOut} {
		if _, err := store.Create(ctx, session.Record{Key: key, Expires: idle, Deadline: deadline}); err != nil {
			fmt.Println(err)
			return
		}
	}
	if _, err := store.Destroy(ctx, loggedOut); err != nil {
		fmt.Println(err)
		return
	}

	now = now.Add(time.Hour)
	for _, key := range []session.Key{left, loggedOut, never} {
		fate, err := store.Fate(ctx, key)
		fmt.Println(fate, err)
	}
	// Output:
	// expired <nil>
	// ended <nil>
	// unknown <nil>
}
