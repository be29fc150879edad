package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// ErrClosed is returned by methods of a closed server.
var ErrClosed = errors.New("pgserver: server is closed")

// ErrNotRunning is returned by Pause, Resume and Promote when the server is
// stopped.
var ErrNotRunning = errors.New("pgserver: server is not running")

// Stop shuts the server down: open connections are ended, everything is
// written. The folder stays, for Restart. Stopping a stopped server is no error.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.shutdown()
}

func (s *Server) shutdown() error {
	if !s.proc.Alive() {
		return nil
	}
	err := errors.Join(s.signal(sigFast), s.signal(sigResume)) // a paused server first has to wake up
	if err == nil && s.proc.Ended(stopLimit) {
		return nil
	}
	s.endNow()
	return errors.Join(err, fmt.Errorf("pgserver: stop: no end within %v, killed", stopLimit))
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
	if !s.proc.Alive() {
		return nil
	}
	s.endNow()
	return nil
}

func (s *Server) endNow() {
	if !s.proc.Alive() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	killTree(ctx, s.proc.OS())
	<-s.proc.Done()
}

// Restart stops the server if it runs and starts it again on the same port.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.shutdown(); err != nil {
		return err
	}
	if err := s.launch(ctx); err != nil {
		return fmt.Errorf("pgserver: restart: %w", err)
	}
	return nil
}

// Pause stops the postmaster until Resume: open connections go on, new ones
// hang.
func (s *Server) Pause() error { return s.locked(func() error { return s.signal(sigPause) }) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.locked(func() error { return s.signal(sigResume) }) }

func (s *Server) locked(do func() error) error {
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

func (s *Server) signal(sig os.Signal) error {
	err := s.proc.OS().Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Close ends the server without writing anything more and deletes its folder.
// It may be called repeatedly.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.proc.Alive() {
		// Unlike a kill, an immediate shutdown frees the shared memory.
		_ = s.signal(sigImmediate)
		_ = s.signal(sigResume)
		if !s.proc.Ended(stopLimit) {
			s.endNow()
		}
	}
	return s.home.Close()
}
