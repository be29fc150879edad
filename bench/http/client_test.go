package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestClientAcceptsOnlyTheAnswerItWants(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		says   string
	}{
		{"the right one", func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "b", HttpOnly: true})
			_, _ = w.Write([]byte("yes"))
		}, ""},
		{"another text", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("no")) }, `"no"`},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "yes", http.StatusServiceUnavailable) }, "503"},
		{"no length", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("yes"))
			w.(http.Flusher).Flush()
		}, "length"},
		{"too much", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "65537")
			_, _ = w.Write([]byte(strings.Repeat("x", 65537)))
		}, "65536"},
		{"none", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.answer)
			defer srv.Close()
			c, err := dial(t.Context(), srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.conn.Close()
			for range 2 { // the second finds the connection where it should be
				cookie, err := c.exchange(request("GET", "/", "c=d"), "yes")
				if tt.says == "" && (err != nil || cookie != "a=b") {
					t.Fatalf("cookie %q, %v", cookie, err)
				}
				if tt.says != "" {
					if err == nil || !strings.Contains(err.Error(), tt.says) {
						t.Fatalf("%v, want an error that says %s", err, tt.says)
					}
					return
				}
			}
		})
	}
}
