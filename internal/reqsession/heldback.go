package reqsession

import (
	"bytes"
	"maps"
	"net/http"
)

// mostHeld is how many bytes of an answer are held back. net/http keeps as many
// itself, so that nothing is sent later than it would be.
const mostHeld = 2048

// heldBack is the beginning of an answer that waits while a session is to be
// replaced. If the handler panics, or runs into the limit of a TimeoutHandler
// around it, nothing has happened.
type heldBack struct {
	status int // 0: nothing is held back
	header http.Header
	body   bytes.Buffer
}

func (h *heldBack) fits(n int) bool { return h.body.Len()+n <= mostHeld }

// writeHeader is the first call of ResponseWriter.WriteHeader; others do nothing.
func (h *heldBack) writeHeader(header http.Header, status int) {
	if h.status == 0 {
		h.status, h.header = status, header.Clone()
	}
}

// restore makes the header again what it was when the answer began, and returns
// what it had become: trailers are set late.
func (h *heldBack) restore(header http.Header) (late http.Header) {
	if h.status == 0 {
		return nil
	}
	late = maps.Clone(header)
	clear(header)
	maps.Copy(header, h.header)
	return late
}

// send begins the answer with what was held back.
func (h *heldBack) send(w http.ResponseWriter, late http.Header) {
	if h.status == 0 {
		return
	}
	w.WriteHeader(h.status)
	if h.body.Len() > 0 {
		_, _ = w.Write(h.body.Bytes()) // the next Write fails too
	}
	maps.Copy(w.Header(), late)
}
