package invalidation

import (
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mutant is the protocol with a mistake in it, which the model or a directed
// scenario has to find.
type mutant struct {
	name  string
	edits []edit
}

// edit replaces a text that occurs once in a file.
type edit struct{ file, before, after string }

var mutants = []mutant{
	{"a lease that counts from when the heartbeat comes back", []edit{
		{"lease.go", "&proof{epoch: ep, sent: b.sent, lease: b.lease}", "&proof{epoch: ep, sent: now, lease: b.lease}"},
	}},
	{"a fill that does not look at the generation", []edit{
		{"fill.go", "case s.gen != t.gen, c.users[", "case c.users["},
	}},
	{"a fill that does not look at the epoch", []edit{
		{"fill.go", "case c.epoch.Load() != t.epoch, t.epoch.sealed:", "case false:"},
		{"fill.go", "	t.epoch.entries.Set(name, e)", "	if ep := c.epoch.Load(); ep != nil {\n		ep.entries.Set(name, e)\n	}"},
	}},
	{"messages that are applied by somebody else, later than the echo", []edit{
		{"lease.go", "type leaseState struct {", "type leaseState struct {\n	later []message"},
		{"lease.go", "	default:\n		c.apply(m)\n", "	default:\n		c.lease.later = append(c.lease.later, m)\n	}\n	if len(c.lease.later) > 3 {\n		c.apply(c.lease.later[0])\n		c.lease.later = c.lease.later[1:]\n"},
	}},
	{"a flush before LISTEN", []edit{
		{"model_node_test.go", "	l := &simLink{sim: n.sim, node: n}\n", "	l := &simLink{sim: n.sim, node: n}\n	n.c.Listening(n.db.server)\n"},
		{"model_node_test.go", "if err := n.c.Listening(p.server); err != nil {", "if err := error(nil); err != nil {"},
	}},
	{"entries that outlive a lost connection", []edit{
		{"lease.go", "type leaseState struct {", "type leaseState struct {\n	kept *epoch"},
		{"lease.go", "	if c.epoch.Swap(nil) != nil {\n", "	if ep := c.epoch.Swap(nil); ep != nil {\n		l.kept = ep\n"},
		{"lease.go", "	c.epoch.Store(ep)\n", "	if l.kept != nil {\n		ep.entries = l.kept.entries\n	}\n	c.epoch.Store(ep)\n"},
	}},
	{"no lease", []edit{
		{"cache.go", "return p != nil && p.sent.recent(now, p.lease)", "return p != nil"},
	}},
	{"a gap that leaves the proof", []edit{
		{"lease.go", "	c.proof.Store(nil) // before anything else\n", ""},
		{"lease.go", "	c.proof.Store(nil) // an echo may just have come in\n", ""},
	}},
	{"reads that are joined whatever has happened since", []edit{
		{"fill.go", "f.gen == t.gen && f.epoch == t.epoch && f.moment == t.moment && ", ""},
	}},
	{"reads that are joined though the key was written", []edit{
		{"fill.go", "f.gen == t.gen && f.epoch", "f.epoch"},
	}},
	{"reads that are joined though the user was logged out", []edit{
		{"fill.go", " && f.moment == t.moment", ""},
	}},
	{"reads that are joined however long they take", []edit{
		{"fill.go", " && f.at.recent(t.at, c.lease.length())", ""},
	}},
	{"no second invalidation after an own write", []edit{
		{"write.go", "	c.bump(s, t) // what was read before may be of before the write\n", ""},
	}},
	{"no first invalidation before an own write", []edit{
		{"write.go", "		w.cache.bump(s, t)\n", ""},
	}},
	{"an end that leaves the session in memory, like a save", []edit{
		{"write.go", "w.add(key, false)", "w.add(key, true)"},
	}},
	{"an own message that is skipped while a save is under way", []edit{
		{"lease.go", "			c.hide(m.tokens)\n", ""},
	}},
	{"an own write that is kept whoever else has written", []edit{
		{"write.go", "alone := s.writes[key.token].count == key.count", "alone := true"},
	}},
	{"an own write that is kept while another one goes on", []edit{
		{"write.go", "	w.cache.endKey(s, key.token)\n	w.keys = nil\n", "	w.cache.endKey(s, key.token)\n	w.keys = nil\n	others := s.writes[key.token]\n	delete(s.writes, key.token)\n"},
		{"write.go", "	w.cache.store(s, w.ticket, row)\n", "	w.cache.store(s, w.ticket, row)\n	if others != nil {\n		s.writes[key.token] = others\n	}\n"},
		{"write.go", "alone := s.writes[key.token].count == key.count", "alone := true"},
	}},
	{"a read that is stored while an own write goes on", []edit{
		{"fill.go", "case s.writes[name] != nil:", "case false:"},
	}},
	{"own writes that are not counted", []edit{
		{"write.go", "	if k.open--; k.open == 0 {\n		delete(s.writes, t)\n	}\n", "	if k != nil {\n		delete(s.writes, t)\n	}\n"},
		{"write.go", "alone := s.writes[key.token].count == key.count", "alone := s.writes[key.token] != nil && s.writes[key.token].count == key.count"},
	}},
	{"own writes that end as soon as they are sent", []edit{
		{"model_write_test.go", "	n.onlookers(x.row)\n	result := n.outcome()\n", "	n.onlookers(x.row)\n	x.w.End()\n	result := n.outcome()\n"},
		{"model_write_test.go", "			w.Wrote(after)\n", ""},
	}},
	{"keys that are only invalidated when a transaction finds out about them", []edit{
		{"model_write_test.go", "w.Add(r.key)", "n.c.Invalidate(r.key)"},
	}},
	{"a read that is stored while this node ends a user's sessions", []edit{
		{"write.go", "c.users[stripe].Store(never)", "c.users[stripe].Store(c.moment.Load())"},
	}},
	{"ends of a user's sessions that are not counted", []edit{
		{"write.go", "if u.open[stripe]--; u.open[stripe] == 0 {", "if u.open[stripe]--; true {"},
	}},
	{"no second invalidation after an own end of a user's sessions", []edit{
		{"write.go", "c.users[stripe].Store(moment)", "c.users[stripe].Store(moment - moment)"},
	}},
	{"a read that is stored while this node ends all sessions", []edit{
		{"cache.go", "sealed: c.lease.clears > 0", "sealed: false"},
	}},
	{"ends of all sessions that are not counted", []edit{
		{"write.go", "	l.clears--\n", "	l.clears = 0\n"},
	}},
	{"no second invalidation after an own end of all sessions", []edit{
		{"write.go", "	l.clears--\n	c.empty()\n", "	l.clears--\n	if ep := c.epoch.Load(); ep != nil {\n		ep.sealed = false\n	}\n"},
	}},
	{"heartbeats that are counted", []edit{
		{"lease.go", "type leaseState struct {", "type leaseState struct {\n	count byte"},
		{"lease.go", "	l.joined.Store(int64(lease))\n", "	l.joined.Store(int64(lease))\n	l.count++\n	b.nonce = nonce{l.count}\n"},
	}},
	{"heartbeats that are counted anew on every connection", []edit{
		{"lease.go", "type leaseState struct {", "type leaseState struct {\n	count byte"},
		{"lease.go", "	l.joined.Store(int64(lease))\n", "	l.joined.Store(int64(lease))\n	l.count++\n	s := c.Sender()\n	b.nonce = nonce(append([]byte{l.count}, append(s[:], 1, 2, 3, 4, 5, 6, 7)...))\n"},
		{"lease.go", "	c.proof.Store(nil)\n	c.stats.lost(l.beats)\n	l.beats = nil\n", "	c.proof.Store(nil)\n	c.stats.lost(l.beats)\n	l.beats = nil\n	l.count = 0\n"},
	}},
	{"any heartbeat that counts", []edit{
		{"lease.go", "func(b beat) bool { return b.nonce == n }", "func(b beat) bool { return true }"},
	}},
	{"a hit that does not look at the user", []edit{
		{"cache.go", " || c.users[e.userStripe].Load() > e.moment", ""},
	}},
	{"a hit that does not look at the end of life", []edit{
		{"cache.go", " || e.until.reached(now)", ""},
	}},
	{"a hit that compares half of the key", []edit{
		{"cache.go", " || e.key != key", ""},
	}},
	{"a lease that looks at the monotonic clock only", []edit{
		{"clock.go", "return mono <= limit && wall <= limit && wall >= mono-clockSlack", "_ = wall\n	return mono <= limit"},
	}},
	{"a lease that looks at the wall clock only", []edit{
		{"clock.go", "return mono <= limit && wall <= limit && wall >= mono-clockSlack", "_ = mono\n	return wall <= limit"},
	}},
	{"a life that looks at the monotonic clock only", []edit{
		{"clock.go", "now.Mono >= i.Mono || now.Wall >= i.Wall", "now.Mono >= i.Mono"},
	}},
	{"a life that looks at the wall clock only", []edit{
		{"clock.go", "now.Mono >= i.Mono || now.Wall >= i.Wall", "now.Wall >= i.Wall"},
	}},
	{"a life that counts from when the row comes in", []edit{
		{"fill.go", "c.until(t.at, row.Life)", "c.until(c.now(), row.Life)"},
	}},
	{"a row without a life that is kept", []edit{
		{"fill.go", "if row.Life <= 0 || t.epoch == nil {", "if row.Life < 0 || t.epoch == nil {"},
		{"fill.go", "c.until(t.at, row.Life)", "c.until(t.at, time.Minute)"},
	}},
	{"an older row that replaces a newer one", []edit{
		{"fill.go", "&& e.older(old.Value) {", "&& e.older(old.Value) && false {"},
	}},
	{"messages of another node that are skipped", []edit{
		{"lease.go", "case m.sender == c.Sender():", "case m.sender == c.Sender() || m.kind == kindKeys && m.tokens[0][0]%2 == 0:"},
	}},
	{"an own write of unknown outcome whose message is skipped", []edit{
		{"cache.go", "func (c *Cache) Disown() {", "func (c *Cache) Disown() {}\n\nfunc (c *Cache) disown() {"},
	}},
	{"messages about a user that are skipped", []edit{
		{"lease.go", "		c.invalidateUser(m.tokens[0])\n", ""},
	}},
	{"a message of several keys of which the first counts", []edit{
		{"lease.go", "for _, t := range m.tokens {", "for _, t := range m.tokens[:1] {"},
	}},
	{"payloads that are ignored when they are not understood", []edit{
		{"lease.go", "		c.flush(CausePayload, err)\n", ""},
	}},
	{"an end of all sessions that leaves the entries", []edit{
		{"lease.go", "c.proof.Store(&proof{epoch: next, sent: p.sent, lease: p.lease})", "next.entries = ep.entries\n		c.proof.Store(&proof{epoch: next, sent: p.sent, lease: p.lease})"},
	}},
	{"an end of all sessions that leaves the reads under way", []edit{
		{"lease.go", "	c.moment.Add(1) // nobody joins a read that is under way, listening or not\n", ""},
	}},
	{"an expiry beyond the deadline", []edit{
		{"cache.go", "min(expires.UnixNano(), e.deadline)", "expires.UnixNano()"},
	}},
	{"an entry of an earlier epoch that is extended into this one", []edit{
		{"cache.go", "	e, ep := c.find(key)\n", "	e, _ := c.find(key)\n"},
		{"cache.go", "		ep.entries.Set(t, e) //", "		c.epoch.Load().entries.Set(t, e) //"},
	}},
	{"a silence that nobody notices", []edit{
		{"lease.go", "if b.committed && !", "if b.committed && false && !"},
	}},
	{"a clock that jumps and nobody notices", []edit{
		{"clock.go", "return drift > clockSlack || drift < -clockSlack", "return drift == 1"},
	}},
}

// What a mutant is searched for, per mutant.
const mutantSeeds = 10000

// In the environment: all, or the number of the sample of mutants to search for.
// Without it a sample is taken by chance; who runs a mutant by its name gets it.
const mutantsVariable = "SOJOURN_MUTANTS"

// mutantSample is how many mutants a sample has: each is a build.
const mutantSample = 1

// sampleOf returns which mutants are searched for.
func sampleOf(t *testing.T) (chosen map[int]bool) {
	chosen = map[int]bool{}
	choice := os.Getenv(mutantsVariable)
	if choice == "all" || choice == "" && strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		for i := range mutants {
			chosen[i] = true
		}
		return chosen
	}
	seed := rand.Uint64()
	if choice != "" {
		seed = number(t, mutantsVariable, 0)
	}
	t.Logf("%d of %d mutants: %s=%d repeats the sample, %[3]s=all takes all", mutantSample, len(mutants), mutantsVariable, seed)
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(mutants))[:mutantSample] {
		chosen[i] = true
	}
	return chosen
}

func TestEveryMutantIsFound(t *testing.T) {
	t.Parallel()
	chosen := sampleOf(t)
	gate := make(chan struct{}, 2) // builds need memory
	for i, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			overlay := m.overlay(t) // which fails if the mistake cannot be made anymore
			if !chosen[i] {
				return
			}
			gate <- struct{}{}
			defer func() { <-gate }()
			cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay="+overlay, "-count=1", "-vet=off",
				"-ldflags=-s -w", "-run=^(TestModel|TestDirected)", ".")
			cmd.Env = append(os.Environ(), seedsVariable+"="+strconv.Itoa(mutantSeeds), seedVariable+"=", "GOFLAGS=") // it need not be watched
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case err == nil:
				t.Error("no test finds it")
			case !errors.As(err, &exit), !strings.Contains(string(out), "--- FAIL"):
				t.Errorf("%v\n%s", err, out)
			default:
				for line := range strings.Lines(string(out)) {
					if strings.Contains(line, "--- FAIL") || strings.Contains(line, "shows it alone") {
						t.Log(strings.TrimSpace(line))
					}
				}
			}
		})
	}
}

// core are the files with the protocol. A mutant is built from them and the
// model alone, which is several times faster.
var core = []string{"cache.go", "clock.go", "entry.go", "errors.go", "fill.go", "lease.go", "message.go", "stats.go", "write.go"}

// overlay writes the files with the mistake and returns the file that names
// them.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	texts, replace := map[string]string{}, map[string]string{}
	for _, e := range m.edits {
		if _, ok := texts[e.file]; !ok {
			text, err := os.ReadFile(e.file)
			if err != nil {
				t.Fatal(err)
			}
			texts[e.file] = string(text)
		}
		if n := strings.Count(texts[e.file], e.before); n != 1 {
			t.Fatalf("%s has %q %d times, want once", e.file, e.before, n)
		}
		texts[e.file] = strings.Replace(texts[e.file], e.before, e.after, 1)
	}
	all, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		original, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := texts[name]; ok {
			replace[original] = filepath.Join(dir, name)
			if err := os.WriteFile(replace[original], []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if !slices.Contains(core, name) && !strings.HasPrefix(name, "model_") {
			replace[original] = "" // as if it were not there
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
