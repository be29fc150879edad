package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// report says what came of the steps of the check.
type report struct {
	out    io.Writer
	asJSON bool
	began  time.Time
	steps  int
	failed int
}

func newReport(out io.Writer, asJSON bool) *report {
	return &report{out: out, asJSON: asJSON, began: time.Now()}
}

// outcome is a line of the report. Its names are promised to programs.
type outcome struct {
	Name         string  `json:"name"`
	OK           bool    `json:"ok"`
	Milliseconds float64 `json:"milliseconds"`
	Detail       string  `json:"detail"`
	Skipped      bool    `json:"skipped,omitempty"`
}

// notTried is the error of a step that cannot be done here, which is no failure.
type notTried string

func (e notTried) Error() string { return string(e) }

// step does a step, which returns what it saw and, if it saw something wrong,
// an error. It reports whether all is well.
func (r *report) step(ctx context.Context, name string, limit time.Duration, do func(context.Context) (string, error)) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))
	defer cancel()
	began := time.Now()
	o := outcome{Name: name, OK: true}
	var err error
	if ctx.Err() == nil {
		o.Detail, err = do(ctx)
	} else {
		err = context.Cause(ctx)
	}
	o.Milliseconds = math.Round(float64(time.Since(began).Microseconds())/100) / 10
	why, skipped := errors.AsType[notTried](err)
	switch {
	case skipped:
		o.Detail, o.Skipped = string(why), true
	case err != nil:
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		o.Detail, o.OK = err.Error(), false
		r.failed++
	}
	o.Detail = strings.Join(strings.Fields(o.Detail), " ") // a line for a step, whatever the driver says
	r.steps++
	r.print(o)
	return o.OK
}

func (r *report) print(o outcome) {
	if r.asJSON {
		enc := json.NewEncoder(r.out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(o) // whoever reads it may be gone
		return
	}
	verdict := "ok  "
	switch {
	case o.Skipped:
		verdict = "skip"
	case !o.OK:
		verdict = "FAIL"
	}
	fmt.Fprintf(r.out, "%s  %-42s %7.0f ms   %s\n", verdict, o.Name, o.Milliseconds, o.Detail)
}

// end sums up and reports whether all was well.
func (r *report) end() bool {
	if !r.asJSON {
		fmt.Fprintf(r.out, "\nsteps: %d, failed: %d, %.1f s\n", r.steps, r.failed, time.Since(r.began).Seconds())
	}
	return r.failed == 0
}
