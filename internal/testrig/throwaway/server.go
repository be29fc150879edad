package throwaway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
)

const (
	startLimit = 5 * time.Minute
	stopLimit  = 2 * time.Minute
)

// Program is what a kind of server has of its own.
type Program struct {
	Name    string   // as errors call it
	Account *Account // runs the server
	Without []string // begin the environment variables that the server must not see

	// Stop makes the server end its connections, write everything and end. Quit
	// makes it end at once, when it is closed and when we die.
	Stop, Quit os.Signal

	// Command is how the server is run on its port, in its folder.
	Command func() (*exec.Cmd, error)
	// Ask returns nil once this server, and not another one that got the port
	// first, answers.
	Ask func(context.Context) error

	// The texts are what the server prints when it accepts connections, when
	// somebody else has its port, and when it cannot start yet: what is in the
	// way of that ends by itself.
	Ready, PortTaken, NotYet string
}

// Server is a server of any kind, in a folder of its own. Its methods are safe
// for concurrent use.
type Server struct {
	program Program
	home    *Home

	mu       sync.Mutex // serialises starting and ending
	port     int        // 0 before the first start
	proc     *Process
	frozen   []*os.Process // children that Freeze has stopped
	ending   bool          // we have asked proc to end
	vanished error         // what Err returns
	closed   bool
}

// New makes the folder of a server, which Start starts once it is filled. It
// removes first what servers of killed processes have left. What a durable
// server writes survives a crash of the machine.
func New(ctx context.Context, p Program, durable bool) (*Server, error) {
	Sweep(ctx)
	home, err := NewHome(durable)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	return &Server{program: p, home: home}, nil
}

// Start starts the server unless it runs, and returns when it accepts
// connections. The first start chooses the port and later ones keep it. ctx
// bounds the start only; the server runs until it is told to end.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.start(ctx)
}

// start is Start while s.mu is held.
func (s *Server) start(ctx context.Context) error {
	if s.proc.Alive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	fixed := s.port != 0
	const attempts = 10
	for attempt := 1; ; attempt++ {
		if !fixed {
			port, err := loopback.FreePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		printed := s.printed()
		err := s.startOnce(ctx)
		if err == nil {
			return nil
		}
		log := s.logFrom(printed)
		notYet := s.program.NotYet != "" && strings.Contains(log, s.program.NotYet)
		if notYet {
			attempt--
		}
		if ctx.Err() != nil || attempt == attempts || !notYet && !strings.Contains(log, s.program.PortTaken) {
			return fmt.Errorf("%s: start: %w; the server said:\n%s", s.program.Name, err, strings.TrimSpace(log))
		}
		if fixed || notYet { // somebody tries out whether the port is free
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func (s *Server) startOnce(ctx context.Context) error {
	printed := s.printed()
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := s.program.Command()
	if err != nil {
		return err
	}
	s.program.Account.Prepare(cmd, s.program.Without...)
	cmd.Stdout, cmd.Stderr = log, log
	s.frozen, s.ending = nil, true // an end before it is ready is the start's failure
	if s.proc, err = Spawn(cmd, s.program.Quit); err != nil {
		return err
	}
	err = s.home.remember(s.proc.OS().Pid)
	if err == nil {
		err = s.awaitReady(ctx, printed)
	}
	if err != nil {
		s.endNow()
		return err
	}
	s.ending = false
	return nil
}

// awaitReady reads the log, as each connection that comes too early costs the
// server time.
func (s *Server) awaitReady(ctx context.Context, printed int64) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	err := errors.New("it does not say that it is ready")
	for {
		if strings.Contains(s.logFrom(printed), s.program.Ready) {
			ask, cancel := context.WithTimeout(ctx, 5*time.Second)
			err = s.program.Ask(ask)
			cancel()
			if err == nil {
				return nil
			}
		}
		select {
		case <-s.proc.Done():
			return fmt.Errorf("the server ended (%v)", s.proc.State())
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// Dir is the server's folder.
func (s *Server) Dir() string { return s.home.Dir }

// DataDir is the server's data folder, below Dir.
func (s *Server) DataDir() string { return filepath.Join(s.home.Dir, "data") }

// Port is the TCP port on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// LogPath is the file that holds what the server printed, over all starts.
func (s *Server) LogPath() string { return filepath.Join(s.home.Dir, "server.log") }

// Log returns what the server has printed so far.
func (s *Server) Log() string { return s.logFrom(0) }

// printed is the length of the log.
func (s *Server) printed() int64 {
	info, err := os.Stat(s.LogPath())
	if err != nil {
		return 0 // not started yet
	}
	return info.Size()
}

func (s *Server) logFrom(offset int64) string {
	log, err := os.Open(s.LogPath())
	if err != nil {
		return "" // not started yet, or closed
	}
	defer log.Close()
	if _, err := log.Seek(offset, io.SeekStart); err != nil {
		return ""
	}
	text, _ := io.ReadAll(log) // what can be read
	return string(text)
}

// remember writes the process that serves the home for sweeps of later
// processes.
func (h *Home) remember(pid int) error {
	return os.WriteFile(filepath.Join(h.Dir, pidFile), []byte(strconv.Itoa(pid)), 0o600)
}
