package throwaway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrClosed is returned by methods of a closed server.
var ErrClosed = errors.New("the server is closed")

// ErrNotRunning is returned by Pause, Freeze and Resume when the server is
// stopped.
var ErrNotRunning = errors.New("the server is not running")

// ErrVanished is returned by Err, and by Close, when a server has ended without
// being told to.
var ErrVanished = errors.New("the server ended by itself")

// Err returns an error with the end of the server's log if it has ended without
// being told to, since the last start or before.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice()
	return s.vanished
}

// notice remembers an end that nobody asked for. s.mu is held.
func (s *Server) notice() {
	if s.proc == nil || s.ending || s.proc.Alive() || s.vanished != nil {
		return
	}
	log := s.Log()
	s.vanished = fmt.Errorf("%s: %w (%v); the end of its log:\n%s",
		s.program.Name, ErrVanished, s.proc.State(), strings.TrimSpace(log[max(0, len(log)-4000):]))
}

// Stop shuts the server down: open connections are ended, everything is
// written. The folder stays, for Start. Stopping a stopped server is no error.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.stop()
}

func (s *Server) stop() error {
	s.notice()
	if !s.proc.Alive() || s.endBy(s.program.Stop) {
		return nil
	}
	s.endNow()
	return fmt.Errorf("%s: stop: no end within %v, killed", s.program.Name, stopLimit)
}

// endBy sends the running server a signal to end and reports whether it does.
func (s *Server) endBy(sig os.Signal) bool {
	s.ending = true
	_ = s.proc.OS().Signal(sig)
	s.resume() // a paused server first has to wake up
	return s.proc.Ended(stopLimit)
}

// Kill ends the server and all its connections at once, like a crash: nothing
// more is written and clients get no message. Killing a stopped server is no
// error.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.notice()
	s.endNow()
	return nil
}

func (s *Server) endNow() {
	if !s.proc.Alive() {
		return
	}
	s.ending = true
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	killTree(ctx, s.proc.OS())
	<-s.proc.Done()
}

// Restart stops the server if it runs and starts it again on the same port.
func (s *Server) Restart(ctx context.Context) error {
	return s.Stopped(ctx, func() error { return nil })
}

// Stopped stops the server if it runs, calls do and starts the server again.
func (s *Server) Stopped(ctx context.Context, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.stop(); err != nil {
		return err
	}
	return errors.Join(do(), s.start(ctx))
}

// Pause stops the process that accepts connections until Resume: new ones hang.
// Open ones go on where another process serves them, as Postgres does. A thread
// that runs on another processor stops a moment later.
func (s *Server) Pause() error {
	return s.whileItRuns(func() error { return s.proc.OS().Signal(Pause) })
}

// Freeze stops all processes of the server until Resume: open connections hang,
// too.
func (s *Server) Freeze() error {
	return s.whileItRuns(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		children, err := pauseTree(ctx, s.proc.OS())
		s.frozen = children
		return err
	})
}

// Resume ends a Pause or Freeze.
func (s *Server) Resume() error {
	return s.whileItRuns(func() error { s.resume(); return nil })
}

// resume wakes all processes. Those that have ended stay so.
func (s *Server) resume() {
	for _, child := range s.frozen {
		_ = child.Signal(Resume)
	}
	s.frozen = nil
	_ = s.proc.OS().Signal(Resume)
}

func (s *Server) whileItRuns(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case !s.proc.Alive():
		return ErrNotRunning
	}
	return do()
}

// Close ends the server without writing anything more and deletes its folder.
// It returns ErrVanished if the server had ended by itself. It may be called
// repeatedly.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.notice()
	// Postgres frees shared memory if it is asked to end, and not if it is killed.
	if s.proc.Alive() && !s.endBy(s.program.Quit) {
		s.endNow()
	}
	return errors.Join(s.vanished, s.home.Close())
}
