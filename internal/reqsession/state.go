// Package reqsession is the machine of one request's session, whatever manages
// it. It says when the session is read, until when the browser can be given a
// cookie, and what has become of the session. It has the error handler answer
// if the session cannot be saved.
//
// The answer:
//
//	Open ──first byte──▶ Sealed ──handler returns──▶ Closed
//
// The session:
//
//	Unread ──▶ Usable ◀──▶ Refused    a Save failed, and another succeeded
//	   │         │  ▲
//	   │         │  └─────────────    a new session or ID begins, from any of these:
//	   │         ├──▶ Dead            it ended while the request was under way
//	   │         ├──▶ Gone            the request has ended it
//	   │         └──▶ Unset           the request does not want it
//	   ├──▶ Degraded                  the request is served without the store
//	   └──▶ Failed ◀─▶ Usable         it cannot be read or saved: the error answers,
//	                                  unless the request goes on without it
package reqsession

import (
	"context"
	"fmt"
)

// Standing is what has become of the session.
type Standing int

// See the package's picture.
const (
	Unread Standing = iota
	Usable
	Refused
	Dead
	Gone
	Unset
	Degraded
	Failed
)

// Answer is how far the request's answer is.
type Answer int

// See the package's picture.
const (
	Open Answer = iota
	Sealed
	Closed
)

// State is that of one request's session. It is guarded by the session's lock.
type State struct {
	answer   Answer
	standing Standing
	failure  error // if it is Failed
	refusal  error // if it is Refused
}

// Is reports whether the session stands like that.
func (s *State) Is(standing Standing) bool { return s.standing == standing }

// Sealed reports whether the answer has begun: no cookie can be given any more.
func (s *State) Sealed() bool { return s.answer >= Sealed }

// Closed reports whether the request is over.
func (s *State) Closed() bool { return s.answer == Closed }

// Failure is why the session could not be read or saved, if it is Failed.
func (s *State) Failure() error { return s.failure }

// Refusal is why changes are refused after a Save that failed: they would not be
// saved. It is nil unless it is Refused.
func (s *State) Refusal() error {
	if s.standing != Refused {
		return nil
	}
	return fmt.Errorf("a Save has failed, and only another Save or a Reload goes on: %w", s.refusal)
}

// Alone reports whether ctx has ended while the request that it was made for goes
// on: what fails of that is the caller's alone.
func Alone(ctx, request context.Context) bool { return ctx.Err() != nil && request.Err() == nil }

// Open reads the session with the first call. When read fails because the caller's
// ctx ended, nothing is decided: the next call reads again.
func (s *State) Open(ctx, request context.Context, read func() error) error {
	if s.standing != Unread {
		return s.failure
	}
	err := s.Read(read)
	if err != nil && Alone(ctx, request) {
		*s = State{answer: s.answer}
	}
	return err
}

// Read reads the session, which is Usable then, or what read made of it.
func (s *State) Read(read func() error) error {
	s.standing, s.failure = Usable, nil
	if err := read(); err != nil {
		s.Fail(err)
	}
	return s.failure
}

// Begin makes it Usable: it is a new one, or has another ID. It stays Failed.
func (s *State) Begin() {
	if s.standing != Failed {
		s.standing = Usable
	}
}

// Recover makes it Usable again if it is Failed: the request goes on without what
// could not be read.
func (s *State) Recover() {
	if s.standing == Failed {
		s.standing, s.failure = Usable, nil
	}
}

// Become makes it Refused, Dead, Gone, Unset or Degraded.
func (s *State) Become(standing Standing) { s.standing = standing }

// Fail makes it Failed.
func (s *State) Fail(err error) { s.standing, s.failure = Failed, err }

// Saved tells what came of a Save that the handler asked for: with an error the
// session is Refused, until another Save succeeds.
func (s *State) Saved(err error) {
	switch {
	case s.standing != Usable && s.standing != Refused:
	case err != nil:
		s.standing, s.refusal = Refused, err
	default:
		s.standing = Usable
	}
}

// Commit saves before the first byte, and seals the answer. A session that ended
// meanwhile is no error: events tell, and the answer may well be right.
func (s *State) Commit(save func() error) error {
	defer s.Seal()
	switch s.standing {
	case Unread, Refused, Failed:
		return s.failure
	}
	if err := save(); err != nil && s.standing != Dead {
		s.Fail(err)
	}
	return s.failure
}

// Seal says that no cookie can be given any more.
func (s *State) Seal() { s.answer = max(s.answer, Sealed) }

// Close ends the request. It reports whether what was changed after the answer
// had begun can be saved.
func (s *State) Close() bool {
	s.answer = Closed
	return s.standing == Usable
}
