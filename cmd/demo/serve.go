package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// serve runs the demo for people until ctx ends.
func serve(ctx context.Context, kind choice, nodes int, out io.Writer) (err error) {
	fmt.Fprintln(out, "Starting …")
	db, err := kind.open(ctx, out)
	if instead, why, ok := kind.other(err); ok {
		fmt.Fprintln(out, why)
		kind = instead
		db, err = kind.open(ctx, out)
	}
	if err != nil {
		return ifWanted(ctx, err)
	}
	defer func() { err = errors.Join(err, second(db.close(ctx))) }()
	if _, err := db.migrate(ctx); err != nil {
		return ifWanted(ctx, err)
	}
	log := &eventLog{out: out}
	fleet := newFleet(kind.backend, db, nodes, log.add)
	if err := fleet.start(ctx); err != nil {
		_ = fleet.stop(ctx) // some have not even started
		return ifWanted(ctx, err)
	}
	fmt.Fprint(out, welcome(kind.backend, db, fleet))
	log.begin()
	fleet.keep(ctx)
	fmt.Fprintln(out, "\nStopping …")
	return fleet.stop(ctx)
}

// ifWanted leaves out what failed because we were told to stop.
func ifWanted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func welcome(kind backend, db database, f *fleet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n", db.about())
	for _, n := range f.nodes {
		fmt.Fprintf(&b, "  %s   %s   process %d\n", n.name, n.url("/"), n.process().cmd.Process.Pid)
	}
	if len(kind.lacks) > 0 {
		fmt.Fprintf(&b, "\nWhat it does not show:\n\n  %s\n", strings.Join(kind.lacks, "\n  "))
	}
	first, second := f.nodes[0], f.nodes[1]
	b.WriteString("\nOpen them in a browser, or try:\n\n")
	columns := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	try := func(comment, format string, args ...any) {
		fmt.Fprintf(columns, "  %s\t# %s\n", fmt.Sprintf(format, args...), comment)
	}
	tryIf := func(is bool, comment, format string, args ...any) {
		if is {
			try(comment, format, args...)
		}
	}
	try("log in on one node; add -d keep=1 to stay for 30 days", "curl -c jar -b jar -d user=alice -d label=curl %s", first.url("/login"))
	try("another one knows you", "curl -b jar %s", second.url("/me"))
	try("change something", "curl -b jar -d key=colour -d value=blue %s", second.url("/set"))
	try("count; on two nodes at once, no click is lost", "curl -b jar -d key=clicks %s", first.url("/count"))
	tryIf(kind.memory, "see what comes from memory, and what that rests on", "curl %s", second.url("/stats"))
	try("stay longer; by itself that happens once a minute", "curl -b jar -X POST %s", first.url("/touch"))
	tryIf(kind.memory, "the same without waiting for the database", "curl -b jar -d later=1 %s", first.url("/touch"))
	try("get a new ID; the old one is good for 5 s more", "curl -c jar -b jar -d grace=5s %s", second.url("/renew"))
	try("see all your devices; in a browser at "+devicesPath, "curl -b jar %s", first.url("/sessions"))
	try("log out one of them", "curl -b jar -d key=… %s", second.url("/revoke"))
	try("or all but this", "curl -b jar -X POST %s", second.url("/revoke-others"))
	try("save in 9 s; refused if you log out meanwhile", "curl -b jar -X POST '%s'", first.url("/slow?ms=9000"))
	try("log out; every node refuses you", "curl -c jar -b jar -X POST %s", second.url("/logout"))
	tryIf(kind.memory, "and the answer waits until none could serve you, whatever it misses", "curl -c jar -b jar -d nodes=all %s", second.url("/logout"))
	try("log out wherever you are logged in", "curl -c jar -b jar -X POST %s", first.url("/logout-all"))
	tryIf(kind.leads, "see who leads", "curl %s", first.url("/stats"))
	tryIf(!kind.leads, "see who has pruned last", "curl %s", first.url("/stats"))
	tryIf(kind.leads, "a node dies; another leads if it did, and it comes back", "kill -9 %d", first.process().cmd.Process.Pid)
	tryIf(!kind.leads, "a node dies; the others go on, and it comes back", "kill -9 %d", first.process().cmd.Process.Pid)
	columns.Flush()
	b.WriteString("\nCtrl-C stops everything.\n\n")
	return b.String()
}

// eventLog prints what the nodes report, from begin on.
type eventLog struct {
	mu   sync.Mutex
	out  io.Writer
	held []string // nil after begin
	open bool
}

func (l *eventLog) add(node string, e entry) {
	if e.message == readyMessage {
		e.text = "is there, process " + e.fields["pid"]
	}
	line := fmt.Sprintf("%s  %s  %s\n", time.Now().Format("15:04:05.000"), node, e.text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		l.held = append(l.held, line)
		return
	}
	fmt.Fprint(l.out, line)
}

func (l *eventLog) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprint(l.out, strings.Join(l.held, ""))
	l.held, l.open = nil, true
}
