package storekit

import (
	"context"
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Invalid is session.ErrInvalid with the reason.
func Invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", session.ErrInvalid, fmt.Sprintf(format, args...))
}

func tooLarge(field string, got, limit int) error {
	return fmt.Errorf("%w: %s has %d bytes; the limit is %d", session.ErrTooLarge, field, got, limit)
}

// IsRefusal reports whether a store had a reason of its own to say no: nothing
// was written, and repeating the call would not help.
func IsRefusal(err error) bool {
	for _, reason := range []error{
		session.ErrNotFound, session.ErrConflict, session.ErrExists, session.ErrUserChanged,
		session.ErrDeadline, session.ErrUserLimit, session.ErrInvalid, session.ErrTooLarge,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// Unknown is session.ErrUnknown: a write may or may not have happened.
func Unknown(cause error) error { return fmt.Errorf("%w: %w", session.ErrUnknown, cause) }

// StillUnknown is the error of a write whose answer was lost, when asking again,
// which ended with err, did not tell what came of it. A refusal that came later
// says nothing about the write, so it is left out.
func StillUnknown(ctx context.Context, lost, err error) error {
	if err == nil || IsRefusal(err) || errors.Is(err, session.ErrUnknown) || errors.Is(err, lost) {
		return Unknown(wait.Because(ctx, lost))
	}
	return Unknown(wait.Because(ctx, fmt.Errorf("%w; before that: %w", err, lost)))
}
