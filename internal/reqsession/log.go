package reqsession

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// countEvery is how often the log says of what goes on how often it has been.
	countEvery = 10 * time.Second
	// mostKinds is how many things are counted apart.
	mostKinds = 64
)

// Log says what goes wrong with requests. In an outage that is the same for each
// of them: the first one is told at once, and then how many there were.
type Log struct {
	to *zap.Logger

	holds atomic.Bool // whether something is counted that has not been told
	mu    sync.Mutex
	kinds map[string]*counted
}

// counted is what has been told, and how often it has been since.
type counted struct {
	level   zapcore.Level
	message string
	told    time.Time
	more    int
}

// NewLog makes a Log that writes to that logger.
func NewLog(to *zap.Logger) *Log { return &Log{to: to, kinds: map[string]*counted{}} }

// Tell says what happened to a request, if it happened to one. kind tells apart
// what is counted apart. A level below a warning is not counted.
func (l *Log) Tell(level zapcore.Level, message, kind string, r *http.Request, fields ...zap.Field) {
	more, now := 0, true
	if level >= zapcore.WarnLevel {
		more, now = l.count(level, message, kind)
	}
	if !now {
		return
	}
	var all []zap.Field
	if r != nil {
		all = append(all, zap.String("method", shorten(r.Method, 16)), zap.String("path", place(r)))
	}
	if more > 0 {
		all = append(all, zap.Int("more", more))
	}
	l.to.Log(level, message, append(all, fields...)...)
}

// count reports whether it is to be told now, and how often it has been since it
// was told.
func (l *Log) count(level zapcore.Level, message, kind string) (more int, now bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind = message + "\n" + kind
	c := l.kinds[kind]
	if c == nil && len(l.kinds) >= mostKinds {
		kind = message
		c = l.kinds[kind]
	}
	if c == nil {
		l.kinds[kind] = &counted{level: level, message: message, told: time.Now()}
		return 0, true
	}
	if time.Since(c.told) < countEvery {
		c.more++
		l.holds.Store(true)
		return 0, false
	}
	more, c.more, c.told = c.more, 0, time.Now()
	return more, true
}

// Count says how often what is counted has been, once it is time. Call it with
// each request: it does nothing as long as nothing is counted.
func (l *Log) Count() {
	if !l.holds.Load() {
		return
	}
	for _, c := range l.due() {
		l.to.Log(c.level, c.message, zap.Int("more", c.more))
	}
}

func (l *Log) due() (due []counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := false
	for _, c := range l.kinds {
		switch {
		case c.more == 0:
		case time.Since(c.told) < countEvery:
			left = true
		default:
			due = append(due, *c)
			c.more, c.told = 0, time.Now()
		}
	}
	l.holds.Store(left)
	return due
}

// place returns where a request goes: the pattern that a ServeMux has found for
// it, else its path. Never the query, which has secrets in it. Parts of a path may
// be some, such as the token of a link: what is long is left out.
func place(r *http.Request) string {
	const longPart, longPath = 20, 200
	if r.Pattern != "" {
		return r.Pattern
	}
	if r.URL == nil {
		return ""
	}
	parts := strings.Split(shorten(r.URL.Path, 4*longPath), "/")
	for i, part := range parts {
		if len(part) >= longPart {
			parts[i] = "…"
		}
	}
	return shorten(strings.Join(parts, "/"), longPath)
}

// shorten cuts a text, and takes from it what is not UTF-8.
func shorten(s string, most int) string { return strings.ToValidUTF8(s[:min(len(s), most)], "?") }

// Emit tells a hook of the application what has happened. A hook that panics does
// not undo what has: the browser still is to get its cookie.
func Emit[E any](ctx context.Context, hook func(context.Context, E), l *Log, r *http.Request, events []E) {
	if hook == nil {
		return
	}
	for _, e := range events {
		emit(ctx, hook, l, r, e)
	}
}

func emit[E any](ctx context.Context, hook func(context.Context, E), l *Log, r *http.Request, e E) {
	defer func() {
		if what := recover(); what != nil {
			l.Tell(zapcore.ErrorLevel, "session: the hook OnEvent panicked", "", r, zap.String("panic", fmt.Sprint(what)), zap.Stack("stack"))
		}
	}()
	hook(ctx, e)
}
