// Package wait is about waiting no longer than a context lasts.
package wait

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sleep reports whether d passed before ctx ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Ended is nil while ctx lasts, and then its error together with its cause.
func Ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// After adds to the error of an attempt that the end of ctx cut short what the
// attempt before it failed with, which says more. before may be nil.
func After(ctx context.Context, err, before error) error {
	if before == nil || !over(ctx) || errors.Is(err, before) {
		return err
	}
	return fmt.Errorf("%w; before that: %w", err, before)
}

// Because adds to err why ctx ended, if it did and err does not say so. It is nil
// for nil. The reason comes first: a statement that is cut off says only that.
func Because(ctx context.Context, err error) error {
	if err == nil || !over(ctx) {
		return err
	}
	end, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case errors.Is(err, end) && errors.Is(err, cause):
		return err
	case errors.Is(err, end):
		return fmt.Errorf("%w: %w", cause, err)
	}
	return fmt.Errorf("%w: %w", Ended(ctx), err)
}

// over reports whether ctx has ended. Package net gives connections its deadline, and
// may notice that a moment before ctx does: over waits for that moment.
func over(ctx context.Context) bool {
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		Sleep(ctx, time.Second)
	}
	return ctx.Err() != nil
}
