package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
)

// head is what a Manager keeps of a session beside its values. It is a line of
// text in front of what the codec made, of fields between spaces. Most requests
// need the first few only.
type head struct {
	// issued is when the ID was made, loggedIn when the user last
	// authenticated, in Unix seconds; 0 is never.
	issued, loggedIn int64
	// turn is which of the version cookies tells of this version.
	turn int
	// name is Options.Name: a session is never used by another manager.
	name string
	// csrf is the root of the session's CSRF tokens, wrapped; empty if the ID
	// yields it.
	csrf string
	// policy is the session's own, as it was given to Login; nil if it has none.
	policy *Policy
	// about is an about in JSON.
	about []byte
}

// about is what lists tell of a session beside its times.
type about struct {
	Handle  string `json:"handle,omitzero"` // see Info
	Label   string `json:"label,omitzero"`
	Address string `json:"addr,omitzero"`
	Agent   string `json:"agent,omitzero"`
}

// format is the first field. Data with another format is another program's.
const format = "1"

// split takes the head off a record's data. The body that is left is the
// codec's.
func split(data []byte) (h head, body []byte, err error) {
	line, body, ok := bytes.Cut(data, []byte{'\n'})
	field := func() (text []byte) {
		text, line, _ = bytes.Cut(line, []byte{' '})
		return text
	}
	if !ok || string(field()) != format {
		return head{}, nil, fmt.Errorf("%w: it has no head", ErrUndecodable)
	}
	if h.issued, err = strconv.ParseInt(string(field()), 10, 64); err != nil {
		return head{}, nil, fmt.Errorf("%w: its head has no time", ErrUndecodable)
	}
	if h.loggedIn, err = strconv.ParseInt(string(field()), 10, 64); err != nil {
		return head{}, nil, fmt.Errorf("%w: its head has no time of login", ErrUndecodable)
	}
	if h.turn, err = strconv.Atoi(string(field())); err != nil || h.turn < 0 || h.turn >= versionCookies {
		return head{}, nil, fmt.Errorf("%w: its head has no turn", ErrUndecodable)
	}
	h.name = string(field())
	h.csrf = string(field())
	if policy := field(); len(policy) > 0 {
		if err := json.Unmarshal(policy, &h.policy); err != nil {
			return head{}, nil, fmt.Errorf("%w: the policy in its head: %w", ErrUndecodable, err)
		}
	}
	h.about = line
	return h, body, nil
}

// join is data that split takes apart.
func join(h head, body []byte) ([]byte, error) {
	var policy []byte
	if h.policy != nil {
		var err error
		if policy, err = jsonobject.Marshal(h.policy); err != nil {
			return nil, err
		}
	}
	data := make([]byte, 0, 64+len(h.csrf)+len(policy)+len(h.about)+len(body))
	data = fmt.Appendf(data, "%s %d %d %d %s %s %s %s\n", format, h.issued, h.loggedIn, h.turn, h.name, h.csrf, policy, h.about)
	return append(data, body...), nil
}

func (h head) issuedAt() time.Time { return time.Unix(h.issued, 0).UTC() }

func (h head) loggedInAt() time.Time {
	if h.loggedIn == 0 {
		return time.Time{}
	}
	return time.Unix(h.loggedIn, 0).UTC()
}

// describe makes about. It is never wrong: its fields are text.
func describe(a about) []byte {
	text, err := jsonobject.Marshal(a)
	if err != nil {
		return nil
	}
	return text
}

func (h head) described() (a about) {
	_ = json.Unmarshal(h.about, &a) // a session is as good without
	return a
}
