package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"time"

	"github.com/alexedwards/scs/v2"
)

// peer is a store of scs on a pool of its own. It has no contexts.
type peer struct {
	db    *sql.DB
	store scs.Store
}

// openPeer makes the table and index that its documentation asks for. By itself
// database/sql would open a connection for most calls; with conns it keeps as
// many as suited the store best.
func openPeer(ctx context.Context, db *sql.DB, conns int, schema []string, store func(*sql.DB) scs.Store) (backend, error) {
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	p := peer{db: db}
	for _, stmt := range schema {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			_ = p.close(ctx)
			return nil, err
		}
	}
	p.store = store(db)
	return p, nil
}

func (p peer) close(context.Context) error { return p.db.Close() }

// create makes a token as scs's manager does.
func (p peer) create(ctx context.Context, data []byte) (visitor, error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	v := &peerVisitor{store: p.store, token: base64.RawURLEncoding.EncodeToString(raw)}
	return v, v.save(ctx, data)
}

type peerVisitor struct {
	store scs.Store
	token string
	data  []byte // as last saved
}

func (v *peerVisitor) get(context.Context) ([]byte, error) {
	data, found, err := v.store.Find(v.token)
	if err == nil && !found {
		err = errGone
	}
	return data, err
}

func (v *peerVisitor) save(_ context.Context, data []byte) error {
	v.data = data
	return v.store.Commit(v.token, data, time.Now().Add(idleTimeout))
}

// touch is what scs's manager does with an IdleTimeout.
func (v *peerVisitor) touch(context.Context) error {
	return v.store.Commit(v.token, v.data, time.Now().Add(idleTimeout))
}

func (v *peerVisitor) destroy(context.Context) error { return v.store.Delete(v.token) }
