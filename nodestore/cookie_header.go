package nodestore

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// longestCookie is more than Node takes of all headers together.
const longestCookie = 16 << 10

// header is the Cookie header as Node sees it: one string, of several lines
// too. It is not net/http that takes it apart, which skips cookies that the
// Node packages see, and so might find another of the same name than they do.
func header(r *http.Request) string { return strings.Join(r.Header["Cookie"], "; ") }

// latin1 is the text that JavaScript makes of a header's bytes.
func latin1(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] < utf8.RuneSelf
	}
	if plain {
		return s
	}
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// decodeComponent is decodeURIComponent, which fails as a whole or not at all.
func decodeComponent(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '%' {
			b = append(b, s[i])
			i++
			continue
		}
		var char [utf8.UTFMax]byte
		n, want := 0, 1
		for ; n < want; n++ {
			var ok bool
			if char[n], ok = escaped(s[i:]); !ok {
				return "", false
			}
			if i += 3; n == 0 {
				want = utf8Len(char[0])
			}
		}
		if !utf8.Valid(char[:n]) {
			return "", false
		}
		b = append(b, char[:n]...)
	}
	return string(b), true
}

// utf8Len is how many bytes a character has that begins with b; 1 if none does.
func utf8Len(b byte) int {
	switch {
	case b >= 0xf0:
		return 4
	case b >= 0xe0:
		return 3
	case b >= 0xc0:
		return 2
	}
	return 1
}

// escaped is the byte of the escape that s begins with.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, low := strings.IndexByte(hexDigits, upper(s[1])), strings.IndexByte(hexDigits, upper(s[2]))
	return byte(high<<4 | low), high >= 0 && low >= 0
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

const hexDigits = "0123456789ABCDEF"

// encodeComponent is encodeURIComponent.
func encodeComponent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if isLetter(c) || isDigit(c) || strings.IndexByte("-_.!~*'()", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
