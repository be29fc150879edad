package pgserver

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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

// initialise makes a data folder at dir, owned by acct, and returns the
// superuser's password.
func initialise(ctx context.Context, inst Installation, acct *throwaway.Account, dir string) (password string, err error) {
	key, err := templateKey(inst, acct)
	if err != nil {
		return "", err
	}
	return throwaway.Template{
		Cache: "sojourn-postgres", Key: key, HomePrefix: homePrefix,
		Make: func(ctx context.Context, dir string) (string, error) { return initdb(ctx, inst, acct, dir) },
	}.Copy(ctx, dir)
}

// templateKey tells builds apart that call themselves the same, and not where
// they are unpacked.
func templateKey(inst Installation, acct *throwaway.Account) (string, error) {
	program, err := os.Stat(filepath.Join(inst.BinDir, "postgres"))
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("%s\n%d\n%d\n%v\n%s", inst.Release, program.Size(), program.ModTime().UnixNano(), acct, hba)
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%d-%s", inst.Version, hex.EncodeToString(sum[:8])), nil
}

func initdb(ctx context.Context, inst Installation, acct *throwaway.Account, dir string) (string, error) {
	password := rand.Text()
	verifier, err := scramVerifier(password)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := acct.Own(dir); err != nil {
		return "", err
	}
	pwfile := dir + ".pwfile"
	if err := os.WriteFile(pwfile, []byte(verifier), 0o600); err != nil {
		return "", err
	}
	defer os.Remove(pwfile)
	if err := acct.Own(pwfile); err != nil {
		return "", err
	}
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
