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

	left, err := store.ListUser(ctx, "alice")
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
