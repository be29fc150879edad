package reqsession

import "context"

// Reach says whether the browser can still be given a cookie. What cannot be
// undone, as the end of the ID that the browser knows, is done only where the
// cookie of the new one goes out.
//
//	                              Sent   Later  Handed  Nobody
//	a login, another ID           yes    yes    error   error
//	an ID that is due             yes    wait   wait    wait
//	a new session with values     yes    yes    yes     error
//	a new session without         yes    yes    no      no
//	values, touches, logouts      yes    yes    yes     yes
type Reach int

const (
	// Sent is when a header begins the answer.
	Sent Reach = iota
	// Later is when the handler asks for a save: the header is still to come.
	Later
	// Handed is when a handler takes over the connection before it has written a
	// header. It may send the one of its ResponseWriter, or one of its own.
	Handed
	// Nobody is when the request's context has ended: the browser has gone, or
	// others have answered it.
	Nobody
)

// ReachOf returns Nobody if the request's context has ended, else reach.
func ReachOf(ctx context.Context, reach Reach) Reach {
	if ctx.Err() != nil {
		return Nobody
	}
	return reach
}
