package session_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sojourn-go/sojourn/session"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestIDsAreDifferentAndSurviveTheirText(t *testing.T) {
	t.Parallel()
	seen := map[session.ID]bool{}
	var ones [256]int
	for range 1000 {
		id := session.NewID(noon.Add(time.Hour))
		if seen[id] || id.IsZero() {
			t.Fatal("an ID came twice or is zero")
		}
		seen[id] = true
		text := id.Secret()
		if len(text) != session.IDTextLen {
			t.Fatalf("the text has %d bytes; want %d", len(text), session.IDTextLen)
		}
		if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Fatal("the text has letters that cookies or URLs cannot have")
		}
		got, err := session.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		if got != id || got.Key() != id.Key() || got.Secret() != text || !seen[got] {
			t.Fatal("a parsed ID is another one")
		}
		if key, err := session.ParseKey(text); key != id.Key() || err != nil {
			t.Fatalf("ParseKey = %v, %v; want %v", key, err, id.Key())
		}
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ones {
			ones[i] += int(raw[i/8] >> (i % 8) & 1)
		}
	}
	for i, n := range ones { // of a thousand coins
		if n < 300 || n > 700 {
			t.Errorf("bit %d is 1 in %d of 1000 IDs", i, n)
		}
	}
}

func TestTheZeroIDHasTheZeroKeyAndNoText(t *testing.T) {
	t.Parallel()
	var id session.ID
	if !id.IsZero() || !id.Key().IsZero() || id.Secret() != "" {
		t.Errorf("the zero ID: IsZero = %v, Key = %+v, Secret = %q", id.IsZero(), id.Key(), id.Secret())
	}
	if fmt.Sprint(id) != session.NewID(noon).String() {
		t.Errorf("the zero ID prints as %v", id)
	}
	if _, err := session.ParseID(""); !errors.Is(err, session.ErrInvalidID) {
		t.Errorf("ParseID of no text: %v", err)
	}
	zeroes := strings.Repeat("A", session.IDTextLen)
	if _, err := session.ParseID(zeroes); !errors.Is(err, session.ErrInvalidID) {
		t.Errorf("ParseID of zeroes: %v", err)
	}
}

func TestAKeyTellsTheBucketAndNothingElse(t *testing.T) {
	t.Parallel()
	deadline := noon.Add(90 * time.Minute)
	id := session.NewID(deadline)
	key := id.Key()
	if key.Bucket != session.BucketOf(deadline) {
		t.Errorf("Bucket is %d; want %d", key.Bucket, session.BucketOf(deadline))
	}
	raw, err := base64.RawURLEncoding.DecodeString(id.Secret())
	if err != nil {
		t.Fatal(err)
	}
	if got := int32(binary.BigEndian.Uint32(raw[32:])); got != key.Bucket {
		t.Errorf("the ID has bucket %d; its key %d", got, key.Bucket)
	}
	if strings.Contains(fmt.Sprintf("%x", raw), fmt.Sprintf("%x", key.Hash[:8])) {
		t.Error("the key has part of the ID")
	}
	if other := session.NewID(deadline).Key(); other.Hash == key.Hash {
		t.Error("two IDs have the same hash")
	}

	// A forged bucket makes another key.
	binary.BigEndian.PutUint32(raw[32:], uint32(key.Bucket+1))
	forged, err := session.ParseID(base64.RawURLEncoding.EncodeToString(raw))
	if err != nil {
		t.Fatal(err)
	}
	if forged.Key().Hash == key.Hash || forged.Key().Bucket != key.Bucket+1 {
		t.Error("an ID with a forged bucket has the same hash")
	}
}

func TestParseIDRefusesAllOtherTexts(t *testing.T) {
	t.Parallel()
	good := session.NewID(noon.Add(time.Hour)).Secret()
	nonCanonical := func() string { // 36 bytes end on a whole group, so only the letters count
		return strings.Map(func(r rune) rune {
			switch r {
			case '-':
				return '+'
			case '_':
				return '/'
			}
			return r
		}, strings.Repeat("-_", 4)+good[8:])
	}
	for name, text := range map[string]string{
		"empty":                       "",
		"one byte":                    "A",
		"one byte short":              good[:len(good)-1],
		"one byte long":               good + "A",
		"padded":                      good + "=",
		"padded at the right length":  good[:len(good)-1] + "=",
		"twice":                       good + good,
		"a space in front":            " " + good[1:],
		"a line end in it":            good[:10] + "\n" + good[11:],
		"line ends at its end":        good[:len(good)-4] + "\r\n\r\n",
		"a line end more":             good + "\n",
		"33 bytes and line ends":      base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, 33)) + "\n\n\n\n",
		"a NUL":                       good[:10] + "\x00" + good[11:],
		"a quote":                     good[:10] + `"` + good[11:],
		"not UTF-8":                   good[:10] + "\xff" + good[11:],
		"letters of another alphabet": good[:10] + "é" + good[12:],
		"standard base64":             nonCanonical(),
		"the placeholder":             session.NewID(noon).String(),
		"a UUID":                      "123e4567-e89b-12d3-a456-426614174000",
		"very long":                   strings.Repeat(good, 1000),
		"bucket 0":                    base64.RawURLEncoding.EncodeToString(append(bytes.Repeat([]byte{1}, 32), 0, 0, 0, 0)),
		"a negative bucket":           base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{255}, 36)),
	} {
		id, err := session.ParseID(text)
		if !errors.Is(err, session.ErrInvalidID) || !id.IsZero() {
			t.Errorf("%s: ParseID = zero: %v, %v; want %v", name, id.IsZero(), err, session.ErrInvalidID)
			continue
		}
		if len(text) > 3 && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error quotes the text: %v", name, err)
		}
		if key, err := session.ParseKey(text); !errors.Is(err, session.ErrInvalidID) || !key.IsZero() {
			t.Errorf("%s: ParseKey = %v, %v; want %v", name, key, err, session.ErrInvalidID)
		}
	}
}

// holder has an ID where fmt does not call its methods.
type holder struct {
	id  session.ID
	ids []session.ID
	m   map[session.ID]int
	any any
}

func TestAnIDCannotBePrinted(t *testing.T) {
	t.Parallel()
	id := session.NewID(noon)
	nested := holder{id: id, ids: []session.ID{id}, m: map[session.ID]int{id: 1}, any: id}
	values := map[string]any{
		"an ID": id, "a pointer": &id, "a slice": []session.ID{id}, "an array": [1]session.ID{id},
		"a map": map[session.ID]session.ID{id: id}, "a field": struct{ ID session.ID }{id},
		"unexported fields": nested, "a pointer to unexported fields": &nested, "a slice of such": []holder{nested},
		"an interface": struct{ v any }{id},
	}
	verbs := []string{
		"%v", "%+v", "%#v", "%s", "%+s", "%#s", "%x", "%X", "%#x", "% x", "%q", "%+q", "%#q", "%d", "%#d", "%b", "%o", "%O", "%c", "%U", "%#U",
		"%e", "%g", "%t", "%p", "%w", "%z", "%T", "%200v", "%-3.2s", "%[1]*d", "extra",
	}
	for name, v := range values {
		for _, verb := range verbs {
			keepsSecret(t, name+" by "+verb, id, fmt.Sprintf(verb, v))
			keepsSecret(t, name+" in an error by "+verb, id, fmt.Errorf("x "+verb, v).Error())
		}
		keepsSecret(t, name+" by Sprint", id, fmt.Sprint(v, v))
		keepsSecret(t, name+" by Append", id, string(fmt.Appendln(nil, v)))
	}
	for _, verb := range verbs[:25] {
		if got := fmt.Sprintf(verb, id); got != "session.ID(redacted)" && verb != "%p" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	if id.GoString() != id.String() {
		t.Errorf("GoString is %s", id.GoString())
	}
}

func TestAnIDCannotBeLogged(t *testing.T) {
	t.Parallel()
	id := session.NewID(noon)
	nested := holder{id: id, ids: []session.ID{id}, m: map[session.ID]int{id: 1}, any: id}
	shown := struct{ ID session.ID }{id}

	var out bytes.Buffer
	for _, enc := range []zapcore.Encoder{
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
	} {
		log := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&out), zap.DebugLevel))
		log.Error("zap", zap.Any("any", id), zap.Stringer("stringer", id), zap.Reflect("reflect", id), zap.Any("pointer", &id),
			zap.Any("slice", []session.ID{id}), zap.Stringers("stringers", []session.ID{id}), zap.Any("map", map[session.ID]int{id: 1}),
			zap.Any("field", shown), zap.Any("nested", nested), zap.Error(fmt.Errorf("about %v", id)))
		log.Sugar().Errorw("sugar", "id", id, "nested", nested)
		log.Sugar().Errorf("sugar %v %+v %s %x", id, nested, id, id)
		log.Sugar().Error(id, nested)
	}
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		log := slog.New(h).With("with", id)
		log.Error("slog", "id", id, "pointer", &id, "slice", []session.ID{id}, "field", shown, "nested", nested,
			slog.Group("group", slog.Any("any", id)), "map", map[session.ID]int{id: 1})
	}
	keepsSecret(t, "a log", id, out.String())
	if n := strings.Count(out.String(), "session.ID(redacted)"); n < 20 {
		t.Errorf("the log has the placeholder %d times:\n%s", n, out.String())
	}
}

func TestAnIDCannotBeMarshalled(t *testing.T) {
	t.Parallel()
	id := session.NewID(noon)
	type page struct {
		ID  session.ID            `json:"id"`
		Ptr *session.ID           `json:"ptr"`
		Map map[string]session.ID `json:"map" xml:"-"`
	}
	shown := page{id, &id, map[string]session.ID{"id": id}}
	text, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	keepsSecret(t, "JSON", id, string(text))
	want := `{"id":"session.ID(redacted)","ptr":"session.ID(redacted)","map":{"id":"session.ID(redacted)"}}`
	if string(text) != want {
		t.Errorf("JSON is %s; want %s", text, want)
	}
	if text, err = json.Marshal(map[session.ID]int{id: 1}); err != nil || string(text) != `{"session.ID(redacted)":1}` {
		t.Errorf("JSON of a map's keys is %s, %v", text, err)
	}
	if text, err = xml.Marshal(shown); err != nil {
		t.Fatal(err)
	}
	keepsSecret(t, "XML", id, string(text))

	// The placeholder does not come back as an ID.
	var back session.ID
	if err := fromJSON(`"`+id.Secret()+`"`, &back); err == nil || !back.IsZero() {
		t.Errorf("JSON gave an ID: %v", err)
	}
}

func fromJSON(text string, v any) error { return json.Unmarshal([]byte(text), v) }

// keepsSecret fails if out has a piece of the ID in any usual notation.
func keepsSecret(t *testing.T, what string, id session.ID, out string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(id.Secret())
	if err != nil {
		t.Fatal(err)
	}
	const from, to = 12, 18 // enough to be no accident
	var dec, goHex, spaced, bin, oct []string
	for _, b := range raw[from:to] {
		dec = append(dec, fmt.Sprintf("%d", b))
		goHex = append(goHex, fmt.Sprintf("0x%x", b))
		spaced = append(spaced, fmt.Sprintf("%02x", b))
		bin = append(bin, fmt.Sprintf("%b", b))
		oct = append(oct, fmt.Sprintf("%o", b))
	}
	low := strings.ToLower(out)
	for _, piece := range []string{
		strings.Join(dec, " "), strings.Join(dec, ","), strings.Join(goHex, ", "), strings.Join(spaced, " "),
		strings.Join(bin, " "), strings.Join(oct, " "), hex.EncodeToString(raw[from:to]), strings.ToLower(fmt.Sprintf("%+q", raw[from:to])),
	} {
		if strings.Contains(low, strings.Trim(piece, `"`)) {
			t.Errorf("%s shows the ID: %.200s", what, out)
			return
		}
	}
	if strings.Contains(out, string(raw[from:to])) || strings.Contains(out, id.Secret()[16:24]) ||
		strings.Contains(out, base64.StdEncoding.EncodeToString(raw)[16:24]) {
		t.Errorf("%s shows the ID: %.200q", what, out)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(session.NewID(noon).Secret())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := session.ParseID(text)
		if key, keyErr := session.ParseKey(text); key != id.Key() || (keyErr == nil) != (err == nil) {
			t.Errorf("ParseKey = %v, %v; ParseID: %v", key, keyErr, err)
		}
		if err != nil {
			if !errors.Is(err, session.ErrInvalidID) || !id.IsZero() {
				t.Errorf("ParseID = zero: %v, %v", id.IsZero(), err)
			}
			return
		}
		if id.Secret() != text {
			t.Error("two texts have the same ID")
		}
		if id.Key().Bucket < 1 || id.IsZero() {
			t.Error("the bucket is out of range")
		}
		keepsSecret(t, "printing", id, fmt.Sprintf("%v %+v %#v %x %v", id, id, id, id, holder{id: id}))
	})
}
