package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// StartStandby starts a hot standby of the primary. The primary is stopped for
// the moment in which its folder is copied, so open connections to it end.
// The standby runs from the same programs; Config.Bin is not used.
func StartStandby(ctx context.Context, primary *Server, cfg Config) (*Server, error) {
	cfg.Bin = primary.inst.BinDir
	return start(ctx, cfg, func(s *Server) error {
		s.password = primary.password
		if err := primary.copyTo(ctx, s.DataDir()); err != nil {
			return err
		}
		u, err := url.Parse(primary.DSN(""))
		if err != nil {
			return err
		}
		u.Path = ""
		conf := "primary_conninfo = '" + u.String() + "'\n"
		for name, text := range map[string]string{"standby.signal": "", "postgresql.auto.conf": conf} {
			path := filepath.Join(s.DataDir(), name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return err
			}
			if err := s.acct.Own(path); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyTo copies the data folder of the stopped server and starts it again.
func (s *Server) copyTo(ctx context.Context, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.shutdown(); err != nil {
		return err
	}
	if err := throwaway.CopyFolder(ctx, s.DataDir(), dir); err != nil {
		return errors.Join(err, s.launch(ctx))
	}
	return s.launch(ctx)
}

// Promote makes a standby a primary and returns when it accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	return s.locked(func() error {
		cmd := exec.CommandContext(ctx, filepath.Join(s.inst.BinDir, "pg_ctl"), "promote", "-w", "-D", s.DataDir())
		s.acct.Prepare(cmd, configPrefix)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pgserver: promote: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}
