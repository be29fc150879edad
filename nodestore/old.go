package nodestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/session"
)

// Old is for session.Options.Old: a session.Manager then takes over the sessions of the
// Node application, each when its browser comes, and ends it in the table. It keeps the
// user that the option User tells, and all values, by their names. When the user logged in
// is not known, and for how long it lasts is for the Manager's Policy to say. Values whose
// names are empty, "_flash" or begin with "_flash:" are left out, as a Manager has other
// uses for them. A session that cannot be read is none.
func (e *Express) Old() session.Old { return oldSite{e.site} }

// Old is Express.Old for koa-generic-session.
func (k *Koa) Old() session.Old { return oldSite{k.site} }

// Old is Express.Old for koa-session.
func (k *KoaSession) Old() session.Old { return oldSite{k.site} }

type oldSite struct{ m *site }

func (o oldSite) Token(r *http.Request) (token string, genuine bool) {
	return o.m.rules.read(r).sid, !o.m.forgeable
}

func (o oldSite) Load(ctx context.Context, token string) (session.OldSession, error) {
	entry, err := o.m.store.Get(ctx, token)
	s := &Session{visit: &visit{m: o.m}}
	if err == nil {
		err = s.adopt(entry)
	}
	if errors.Is(err, session.ErrUndecodable) {
		return session.OldSession{}, fmt.Errorf("nodestore: load: %w: %w", session.ErrNotFound, err)
	} else if err != nil {
		return session.OldSession{}, wrap("load", err)
	}
	values := map[string]any{}
	for _, key := range s.doc.keys(o.m.isCookie) {
		if key != "" && utf8.ValidString(key) && key != "_flash" && !strings.HasPrefix(key, "_flash:") {
			values[key] = json.RawMessage(s.doc.Raw(key))
		}
	}
	return session.OldSession{User: s.user(), Values: values}, nil
}

func (o oldSite) End(ctx context.Context, token string) error {
	_, err := o.m.store.Destroy(ctx, token)
	return wrap("end", err)
}
