package storekit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

func TestIsRefusalKnowsWhatTheStoreDecides(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		session.ErrNotFound: true, session.ErrConflict: true, session.ErrExists: true, session.ErrUserChanged: true,
		session.ErrDeadline: true, session.ErrUserLimit: true, session.ErrInvalid: true, session.ErrTooLarge: true,
		session.ErrUnknown: false, session.ErrClosed: false, session.ErrNoPartition: false,
		context.Canceled: false, errors.New("the server is gone"): false,
	} {
		if got := storekit.IsRefusal(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("IsRefusal(%v) is %v", err, got)
		}
	}
	if storekit.IsRefusal(nil) {
		t.Error("nil is a refusal")
	}
}

func TestAWriteStaysUnknownWhateverIsRefusedLater(t *testing.T) {
	t.Parallel()
	lost, gone := errors.New("the answer was lost"), errors.New("the server is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the caller left")
	for _, tt := range []struct {
		name     string
		err      error
		has, not []error
	}{
		{"nothing came later", nil, nil, nil},
		{"a refusal", session.ErrConflict, nil, []error{session.ErrConflict}},
		{"the same again", fmt.Errorf("again: %w", lost), nil, nil},
		{"another failure", gone, []error{gone}, nil},
		{"unknown already", storekit.Unknown(gone), nil, nil},
	} {
		err := storekit.StillUnknown(ctx, lost, tt.err)
		for _, want := range append(tt.has, session.ErrUnknown, lost) {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v is not %v", tt.name, err, want)
			}
		}
		for _, not := range append(tt.not, why) {
			if errors.Is(err, not) {
				t.Errorf("%s: %v is %v", tt.name, err, not)
			}
		}
	}
	cancel(why)
	if err := storekit.StillUnknown(ctx, lost, gone); !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
		t.Errorf("it does not say why the context ended: %v", err)
	}
}
