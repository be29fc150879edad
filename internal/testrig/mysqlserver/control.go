package mysqlserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// ErrClosed is returned by methods of a closed server.
var ErrClosed = errors.New("mysqlserver: server is closed")

// ErrNotRunning is returned by Pause and Resume when the server is stopped.
var ErrNotRunning = errors.New("mysqlserver: server is not running")

// ErrVanished is returned by Err, and by Close, when a server has ended without
// being told to.
var ErrVanished = errors.New("mysqlserver: the server ended by itself")

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
	s.vanished = fmt.Errorf("%w (%v); the end of its log:\n%s", ErrVanished, s.proc.State(), strings.TrimSpace(log[max(0, len(log)-4000):]))
}

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
	s.notice()
	if !s.proc.Alive() {
		return nil
	}
	s.ending = true
	err := errors.Join(s.signal(throwaway.Terminate), s.signal(throwaway.Resume)) // a paused server first has to wake up
	if err == nil && s.proc.Ended(stopLimit) {
		return nil
	}
	s.endNow()
	return errors.Join(err, fmt.Errorf("mysqlserver: stop: no end within %v, killed", stopLimit))
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
	s.endNow()
	return nil
}

func (s *Server) endNow() {
	s.notice()
	if !s.proc.Alive() {
		return
	}
	s.ending = true
	_ = s.signal(throwaway.Kill)
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
		return fmt.Errorf("mysqlserver: restart: %w", err)
	}
	return nil
}

// Pause stops the whole server until Resume: everything hangs, open connections
// too.
func (s *Server) Pause() error { return s.running(throwaway.Pause) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.running(throwaway.Resume) }

func (s *Server) running(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case !s.proc.Alive():
		return ErrNotRunning
	}
	return s.signal(sig)
}

func (s *Server) signal(sig os.Signal) error {
	err := s.proc.OS().Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
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
	s.endNow()
	return errors.Join(s.vanished, s.home.Close())
}

const pidFile = "pid" // in the data folder

// sweep ends the servers and removes the folders of processes that died
// without cleaning up.
func sweep(ctx context.Context) {
	throwaway.Sweep(homePrefix, func(home string) {
		data := dataDir(home)
		if server := throwaway.Orphan(ctx, filepath.Join(data, pidFile), data); server != nil {
			_ = server.Kill()
			throwaway.AwaitEnd(ctx, server.Pid)
		}
	})
}
