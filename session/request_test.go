package session_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// Of what a Manager's copy of the request hides from those outside.

// upload is a request with a file of 12 MB.
func upload(t *testing.T, url string) *http.Request {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, err := form.CreateFormFile("file", "large")
	if err == nil {
		_, err = file.Write(make([]byte, 12<<20))
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, url, &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return r
}

func TestUploadedFilesGoWithTheirRequest(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	other := newFrail(t, session.Options{Name: "other"})
	for name, around := range map[string]func(http.Handler) http.Handler{
		"a handler":    func(h http.Handler) http.Handler { return f.m.Handler(h) },
		"two managers": func(h http.Handler) http.Handler { return other.m.Handler(f.m.Handler(h)) },
		"a copy outside": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f.m.Handler(h).ServeHTTP(w, r.WithContext(r.Context()))
			})
		},
	} {
		for _, panics := range []bool{false, true} {
			path := ""
			handler := recovers(around(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if err := r.ParseMultipartForm(1 << 10); err != nil {
					t.Error(err)
				}
				file, _, err := r.FormFile("file")
				if err != nil {
					t.Error(err)
					return
				}
				defer file.Close()
				if onDisk, ok := file.(*os.File); ok {
					path = onDisk.Name()
				}
				n, err := io.Copy(io.Discard, file)
				if err != nil || n != 12<<20 {
					t.Errorf("%d bytes, %v", n, err)
				}
				if panics {
					panic("oops")
				}
			})))
			handler.ServeHTTP(httptest.NewRecorder(), upload(t, "https://localhost/"))
			if path == "" {
				t.Fatal("the file was not kept on disk")
			}
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("%s, panics: %t: the file is still there: %v", name, panics, err)
			}
		}
	}
}

func TestThoseOutsideSeeWhatBecameOfTheRequest(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /users/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, r.PathValue("id"))
	})
	mux.HandleFunc("POST /panic/{id}", func(http.ResponseWriter, *http.Request) { panic("oops") })
	for path, pattern := range map[string]string{"/users/7": "POST /users/{id}", "/panic/7": "POST /panic/{id}"} {
		r := httptest.NewRequest(http.MethodPost, "https://localhost"+path+"?a=1", nil)
		ctx := r.Context()
		recovers(f.m.Handler(mux)).ServeHTTP(httptest.NewRecorder(), r)
		if r.Pattern != pattern || r.PathValue("id") != "7" {
			t.Errorf("%s: the pattern is %q, the value %q", path, r.Pattern, r.PathValue("id"))
		}
		if path == "/users/7" && r.Form.Get("a") != "1" {
			t.Errorf("%s: the form is %v", path, r.Form)
		}
		if r.Context() != ctx {
			t.Errorf("%s: those outside have another context", path)
		}
	}
}
