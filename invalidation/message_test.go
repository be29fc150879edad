package invalidation

import (
	"slices"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// goldenSender is 8 bytes, goldenKey a key whose hash counts.
var goldenSender = Sender{0xa0, 1, 2, 3, 4, 5, 6, 7}

func goldenKey(first byte) session.Key {
	k := session.Key{Bucket: 3}
	for i := range k.Hash {
		k.Hash[i] = first + byte(i)
	}
	return k
}

// Nodes of different versions read each other's payloads, so they stay.
func TestPayloadsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		got, want string
	}{
		"heartbeat":  {Heartbeat{nonce{1, 2, 3}}.Payload(), "1hAQIDAAAAAAAAAAAAAAAAAA"},
		"key":        {goldenSender.Keys(goldenKey(0))[0], "1koAECAwQFBgcAAQIDBAUGBwgJCgsMDQ4P"},
		"keys":       {goldenSender.Keys(goldenKey(0), goldenKey(16))[0], "1koAECAwQFBgcAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw"},
		"user":       {goldenSender.User("ada"), "1uoAECAwQFBgdL5b4VGFCtQs60Dh0DHFKy"},
		"all":        {goldenSender.All(), "1aoAECAwQFBgc"},
		"partitions": {goldenSender.Partitions(), "1moAECAwQFBgc"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", name, c.got, c.want)
		}
	}
}

func TestAPayloadIsUnderstoodAsItWasMeant(t *testing.T) {
	t.Parallel()
	keys := []session.Key{goldenKey(0), goldenKey(16)}
	for text, want := range map[string]message{
		Heartbeat{nonce{9}}.Payload(): {kind: kindHeartbeat, nonce: nonce{9}},
		goldenSender.Keys(keys...)[0]: {kind: kindKeys, sender: goldenSender, tokens: []token{keyToken(keys[0]), keyToken(keys[1])}},
		goldenSender.User("ada"):      {kind: kindUser, sender: goldenSender, tokens: []token{userToken("ada")}},
		goldenSender.All():            {kind: kindAll, sender: goldenSender},
		goldenSender.Partitions():     {kind: kindPartitions, sender: goldenSender},
	} {
		got, err := parse(text)
		if err != nil || got.kind != want.kind || got.sender != want.sender || got.nonce != want.nonce || !slices.Equal(got.tokens, want.tokens) {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestManyKeysGoIntoSeveralPayloadsThatPostgresTakes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, tokensPerBatch, tokensPerBatch + 1, 1000} {
		keys := make([]session.Key, n)
		for i := range keys {
			keys[i].Hash[0], keys[i].Hash[1] = byte(i), byte(i>>8)
		}
		payloads := goldenSender.Keys(keys...)
		if want := (n + tokensPerBatch - 1) / tokensPerBatch; len(payloads) != want {
			t.Errorf("%d keys: %d payloads, want %d", n, len(payloads), want)
		}
		var tokens []token
		for _, p := range payloads {
			if len(p) > maxPayload {
				t.Errorf("%d keys: a payload has %d bytes, more than %d", n, len(p), maxPayload)
			}
			m, err := parse(p)
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, m.tokens...)
		}
		for i, key := range keys {
			if tokens[i] != keyToken(key) {
				t.Fatalf("%d keys: token %d is of another key", n, i)
			}
		}
	}
}

func TestPayloadsOfAnotherShapeAreNotUnderstood(t *testing.T) {
	t.Parallel()
	good := goldenSender.Keys(goldenKey(0))[0]
	for name, text := range map[string]string{
		"empty":                 "",
		"one byte":              "1",
		"another version":       "2" + good[1:],
		"another kind":          "1x" + good[2:],
		"padding":               "1aoAECAwQFBgc=",
		"standard base64":       "1h++++++++++++++++++++++",
		"trailing bits":         "1aoAECAwQFBgd",
		"a line end":            good[:5] + "\n" + good[5:],
		"no sender":             "1a",
		"half a sender":         "1aoAEC",
		"no token":              "1koAECAwQFBgc",
		"half a token":          good[:len(good)-4],
		"two users":             strings.Replace(goldenSender.Keys(goldenKey(0), goldenKey(1))[0], "1k", "1u", 1),
		"all and a token":       strings.Replace(good, "1k", "1a", 1),
		"a short heartbeat":     "1hAQID",
		"a heartbeat too long":  Heartbeat{}.Payload() + "AAAA",
		"something else's text": "hello, world",
	} {
		if m, err := parse(text); err == nil {
			t.Errorf("%s: %q is understood as %+v", name, text, m)
		} else if text != "" && len(text) > 3 && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error quotes what came in: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "1", Heartbeat{}.Payload(), goldenSender.Keys(goldenKey(0), goldenKey(1))[0], goldenSender.User("ada"),
		goldenSender.All(), goldenSender.Partitions(), "2kAAAA", "1k\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parse(text)
		if err != nil {
			return
		}
		again := payload(m.kind, m.nonce[:])
		if m.kind != kindHeartbeat {
			raw := m.sender[:]
			for _, token := range m.tokens {
				raw = append(raw, token[:]...)
			}
			again = payload(m.kind, raw)
		}
		if again != text {
			t.Errorf("%q is understood as what is written %q", text, again)
		}
	})
}

func TestEachTableHasAChannelOfItsOwn(t *testing.T) {
	t.Parallel()
	if got, want := Channel("public", "sessions"), "sojourn_bb038aef2dd25ecb06736d0498bf6b90"; got != want {
		t.Errorf("the channel is %q, want %q: nodes of different versions would not hear each other", got, want)
	}
	long := strings.Repeat("x", 63)
	seen := map[string]string{}
	for _, name := range [][2]string{
		{"public", "sessions"}, {"publi", "csessions"}, {"public:", "sessions"}, {"public", ":sessions"},
		{"", "publicsessions"}, {"a:b", "c"}, {"a", "b:c"}, {long, long}, {long, long[1:]}, {"Public", "sessions"},
	} {
		channel := Channel(name[0], name[1])
		if len(channel) > 63 {
			t.Errorf("%q has %d bytes, more than a name in Postgres", channel, len(channel))
		}
		if other, ok := seen[channel]; ok {
			t.Errorf("%q and %q share a channel", name, other)
		}
		seen[channel] = strings.Join(name[:], ".")
	}
}
