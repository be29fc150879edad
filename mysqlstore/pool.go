package mysqlstore

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
)

// pool is the connections that the store keeps out of the caller's.
type pool struct {
	db      *sql.DB
	texts   queries
	charset string

	mu     sync.Mutex
	idle   []*conn // the one used last is the next
	closed bool
}

// take returns a connection that nobody else uses: for transactions rather one that
// was used for them.
func (p *pool) take(ctx context.Context, transactions bool) (*conn, error) {
	for {
		p.mu.Lock()
		i := len(p.idle) - 1
		if i < 0 {
			p.mu.Unlock()
			return newConn(ctx, p.db, p.texts, p.charset)
		}
		for i > 0 && p.idle[i].begins != transactions {
			i--
		}
		c := p.idle[i]
		p.idle = slices.Delete(p.idle, i, i+1)
		p.mu.Unlock()
		if c.usable(ctx) {
			return c, nil
		}
		c.close()
	}
}

func (p *pool) put(c *conn) {
	c.idle = time.Now()
	p.mu.Lock()
	keep := !c.broken && !p.closed
	if keep {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		c.close()
	}
}

// close closes what is idle, and what comes back later.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// gate bounds how many callers use a connection at a time.
type gate struct {
	*sqlstore.Gate
	pool *pool
}

func newGate(p *pool, n int) *gate { return &gate{sqlstore.NewGate(n), p} }

// do calls f with a connection each of whose statements is a transaction.
func (g *gate) do(ctx context.Context, f func(*conn) error) error { return g.with(ctx, false, f) }

// begin calls f with a connection for conn.transaction.
func (g *gate) begin(ctx context.Context, f func(*conn) error) error { return g.with(ctx, true, f) }

func (g *gate) with(ctx context.Context, transactions bool, f func(*conn) error) error {
	if err := g.Enter(ctx); err != nil {
		return notDone{err}
	}
	defer g.Leave()
	c, err := g.pool.take(ctx, transactions)
	if err != nil {
		return err
	}
	defer g.pool.put(c)
	if err := c.begin(ctx, transactions); err != nil {
		return err
	}
	return f(c)
}
