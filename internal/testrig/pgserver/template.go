package pgserver

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

const hba = `host all         postgres 127.0.0.1/32 scram-sha-256
host replication postgres 127.0.0.1/32 scram-sha-256
host all         all      127.0.0.1/32 trust
`

// template is the data folder of an installation.
func template(inst Installation, acct *throwaway.Account) throwaway.Template {
	return throwaway.Template{
		Name: fmt.Sprint("postgres-", inst.Version), Program: inst.program(), Release: inst.Release, Account: acct, Recipe: hba,
		Make: func(ctx context.Context, dir string) (string, error) { return initdb(ctx, inst, acct, dir) },
	}
}

func initdb(ctx context.Context, inst Installation, acct *throwaway.Account, dir string) (string, error) {
	password := rand.Text()
	verifier, err := scramVerifier(password)
	if err != nil {
		return "", err
	}
	pwfile := dir + ".pwfile"
	if err := errors.Join(acct.Mkdir(dir), acct.WriteFile(pwfile, verifier)); err != nil {
		return "", err
	}
	defer os.Remove(pwfile)
	cmd := exec.CommandContext(ctx, filepath.Join(inst.BinDir, "initdb"),
		"-D", dir, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
		"-A", "scram-sha-256", "--pwfile="+pwfile)
	acct.Prepare(cmd, configPrefix)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pgserver: initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return password, os.WriteFile(filepath.Join(dir, "pg_hba.conf"), []byte(hba), 0o600)
}

// scramVerifier is what Postgres stores for a password (RFC 5803). One iteration
// is enough for a random one and spares every connection 4096 hashes twice.
func scramVerifier(password string) (string, error) {
	const iterations = 1
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}
