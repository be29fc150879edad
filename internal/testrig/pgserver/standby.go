package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
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
		if err := primary.Stopped(ctx, func() error { return throwaway.CopyFolder(ctx, primary.DataDir(), s.DataDir()) }); err != nil {
			return err
		}
		u, err := url.Parse(primary.DSN(""))
		if err != nil {
			return err
		}
		u.Path = ""
		conf := "primary_conninfo = '" + u.String() + "'\n"
		return errors.Join(
			s.acct.WriteFile(filepath.Join(s.DataDir(), "standby.signal"), ""),
			s.acct.WriteFile(filepath.Join(s.DataDir(), "postgresql.auto.conf"), conf),
		)
	})
}

// Promote makes a standby a primary and returns when it accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.inst.BinDir, "pg_ctl"), "promote", "-w", "-D", s.DataDir())
	s.acct.Prepare(cmd, configPrefix)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgserver: promote: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
