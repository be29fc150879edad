package sessiontest

import (
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

// Of stores that cache: what one node writes reaches the others a moment later.

func nodeCases() []testCase {
	return []testCase{
		{name: "what a node has read ends on every node", run: endsEverywhere},
		{name: "what a node has read is replaced on every node", run: replacedEverywhere},
		{name: "a destroy on all nodes leaves nothing to any node", needs: NodeWaiter, run: destroyOnAllNodes},
		{name: "what was waited for is seen by every node", needs: NodeWaiter, run: waitsForAllNodes},
	}
}

func endsEverywhere(e *env) {
	ends := map[string]func(rec session.Record){
		"Destroy": func(rec session.Record) { e.destroy(1, rec.Key) },
		"Save": func(rec session.Record) {
			rec.Expires = e.now().Add(-1)
			e.save(rec)
		},
		"Renew": func(rec session.Record) { e.renew(rec, 0) },
	}
	if users, ok := e.s.(session.UserIndex); ok {
		ends["DestroyUser"] = func(rec session.Record) {
			if _, err := users.DestroyUser(e.ctx, rec.User); err != nil {
				e.Errorf("DestroyUser: %v", err)
			}
		}
		ends["CreateLimited"] = func(rec session.Record) {
			if _, _, err := users.CreateLimited(e.ctx, e.recordOf(rec.User), session.UserLimit{Max: 1, Evict: true}); err != nil {
				e.Errorf("CreateLimited: %v", err)
			}
		}
	}
	for name, end := range ends {
		rec := e.create(e.recordOf(e.unique("user")))
		for range 3 {
			e.live(rec.Key)
			if _, err := e.peer().Get(e.ctx, rec.Key); err != nil {
				e.Fatalf("Get by the other node: %v", err)
			}
		}
		end(rec)
		_, err := e.s.Get(e.ctx, rec.Key) // at once on the node that wrote
		e.refused("Get after "+name, err, session.ErrNotFound)
		e.eventuallyGone(rec.Key)
	}
}

func replacedEverywhere(e *env) {
	rec := e.create(e.record())
	for range rounds.Of(20) {
		if _, err := e.peer().Get(e.ctx, rec.Key); err != nil {
			e.Fatalf("Get by the other node: %v", err)
		}
		rec.Data = []byte(e.unique(private))
		rec = e.save(rec)
		e.same("Get", e.live(rec.Key), rec)
		e.eventually("the other node sees the save", func() bool {
			got, err := e.peer().Get(e.ctx, rec.Key)
			return err == nil && got.Version == rec.Version && string(got.Data) == string(rec.Data)
		})
	}
}

func destroyOnAllNodes(e *env) {
	recs := []session.Record{e.create(e.record()), e.create(e.foreign())}
	for _, rec := range recs {
		if _, err := e.peer().Get(e.ctx, rec.Key); err != nil {
			e.Fatalf("Get by the other node: %v", err)
		}
	}
	n, err := e.s.(session.NodeWaiter).DestroyOnAllNodes(e.ctx, recs[0].Key, recs[1].Key)
	if n != 2 || err != nil {
		e.Errorf("DestroyOnAllNodes = %d, %v; want 2, nil", n, err)
	}
	for _, rec := range recs {
		_, err := e.peer().Get(e.ctx, rec.Key)
		e.refused("Get by the other node", err, session.ErrNotFound)
		e.gone(rec.Key)
	}
}

func waitsForAllNodes(e *env) {
	rec := e.create(e.record())
	if _, err := e.peer().Get(e.ctx, rec.Key); err != nil {
		e.Fatalf("Get by the other node: %v", err)
	}
	rec.Data = []byte(e.unique(private))
	rec = e.save(rec)
	if err := e.s.(session.NodeWaiter).WaitForAllNodes(e.ctx); err != nil {
		e.Fatalf("WaitForAllNodes: %v", err)
	}
	got, err := e.peer().Get(e.ctx, rec.Key)
	if err != nil {
		e.Fatalf("Get by the other node: %v", err)
	}
	e.same("Get by the other node", got, rec)
}
