package scsstore

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTheSameGobInAnotherOrder(t *testing.T) {
	t.Parallel()
	deadline := time.Now().UTC()
	values := map[string]any{"": "", "a": "x", "b": 7, "c": -300, "d": true, "e": 2.5, "f": []byte("y"), "g": uint(1 << 40), "h": strings.Repeat("z", 1000)}
	first := blob(t, deadline, values)
	others := 0
	for range 50 {
		next := blob(t, deadline, values)
		if same, sure := sameGob(first, next); !same || !sure {
			t.Fatal("the same values are not found to be the same")
		}
		if !bytes.Equal(first, next) {
			others++
		}
	}
	if others == 0 {
		t.Error("gob has written the map in one order only: this proves nothing")
	}
	changed := func(key string, v any) map[string]any {
		next := map[string]any{key: v}
		for k, v := range values {
			if k != key {
				next[k] = v
			}
		}
		return next
	}
	for _, next := range [][]byte{
		blob(t, deadline.Add(1), values), blob(t, deadline, changed("a", "y")), blob(t, deadline, changed("b", 8)),
		blob(t, deadline, changed("b", uint(7))), blob(t, deadline, changed("i", 1)), blob(t, deadline, map[string]any{}),
	} {
		if same, sure := sameGob(first, next); same || !sure {
			t.Errorf("other values are the same: %v, %v", same, sure)
		}
	}
	for _, next := range [][]byte{first[:len(first)-1], append(bytes.Clone(first), 0), nil, blob(t, deadline, nil)} {
		if _, sure := sameGob(first, next); sure {
			t.Error("what cannot be read is compared")
		}
	}
	// What holds more types is left to be decoded.
	for _, v := range []any{deadline, []string{"x"}} {
		gob.Register(v)
		if _, sure := sameGob(blob(t, deadline, map[string]any{"v": v}), blob(t, deadline, map[string]any{"v": v})); sure {
			t.Errorf("a value of type %T is not left to be decoded", v)
		}
	}
	none := blob(t, deadline, map[string]any{})
	if same, sure := sameGob(none, bytes.Clone(none)); !same || !sure {
		t.Error("no values are not found to be the same")
	}
}

// Whatever is found to be the same is decoded to the same.
func FuzzSameGob(f *testing.F) {
	t := new(testing.T)
	deadline := time.Unix(1<<30, 0).UTC()
	a := blob(t, deadline, map[string]any{"a": "x", "b": 1})
	f.Add(a, blob(t, deadline, map[string]any{"b": 1, "a": "x"}))
	f.Add(a, blob(t, deadline, map[string]any{"b": "x", "a": 1}))
	f.Add(a[:len(a)-2], []byte{0x80, 1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if same, _ := sameGob(a, b); !same {
			return
		}
		until, values, err := gobCodec{}.Decode(a)
		till, others, bad := gobCodec{}.Decode(b)
		if err == nil && bad == nil && (!until.Equal(till) || !reflect.DeepEqual(values, others)) {
			t.Errorf("%v and %v are not the same", values, others)
		}
	})
}

func BenchmarkSame(b *testing.B) {
	t := new(testing.T)
	values := map[string]any{"user": "alice", "theme": "light", "basket": strings.Repeat("4006381333931:02;", 18), "seen": 7}
	deadline := time.Now().UTC()
	one, two := blob(t, deadline, values), blob(t, deadline, values)
	for name, codec := range map[string]Codec{"of basic types": gobCodec{}, "decoded": struct{ Codec }{gobCodec{}}} {
		s := &Store{opts: Options{Codec: codec}}
		data := append(make([]byte, len(alias{})), one...)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !s.same(data, two) {
					b.Fatal("not the same")
				}
			}
		})
	}
}
