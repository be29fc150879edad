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
	"time"
)

// Temporary folders are cleaned by age, cache folders by hand: a template that
// lost some of its old files would break every server made from it.
const templateAge = 24 * time.Hour

const hba = `host all         postgres 127.0.0.1/32 scram-sha-256
host replication postgres 127.0.0.1/32 scram-sha-256
host all         all      127.0.0.1/32 trust
`

// initialise makes a data folder at dir, owned by acct, and returns the
// superuser's password. It copies a cached one where there is a cache.
func initialise(ctx context.Context, inst Installation, acct *account, dir string) (password string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return initdb(ctx, inst, acct, dir) // no home, no cache
	}
	cache = filepath.Join(cache, "sojourn-postgres")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	key, err := templateKey(inst, acct)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, key)

	// Several test programs start at the same time: one of them makes the
	// template, and nobody replaces it while others copy it.
	guard, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer guard.Close()
	if err := lock(guard, false); err != nil {
		return "", err
	}
	if !fresh(path) {
		if err := lock(guard, true); err != nil { // not an upgrade: another may come first
			return "", err
		}
		if !fresh(path) {
			prune(cache)
			if err := makeTemplate(ctx, inst, acct, path); err != nil {
				return "", err
			}
		}
	}
	secret, err := os.ReadFile(filepath.Join(path, "password"))
	if err != nil {
		return "", err
	}
	return string(secret), copyFolder(ctx, filepath.Join(path, "data"), dir)
}

// templateKey tells builds apart that call themselves the same, and not where
// they are unpacked.
func templateKey(inst Installation, acct *account) (string, error) {
	program, err := os.Stat(filepath.Join(inst.BinDir, "postgres"))
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("%s\n%d\n%d\n%v\n%s", inst.Release, program.Size(), program.ModTime().UnixNano(), acct, hba)
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%d-%s", inst.Version, hex.EncodeToString(sum[:8])), nil
}

// prune deletes the templates that are too old to be used.
func prune(cache string) {
	guards, err := filepath.Glob(filepath.Join(cache, "*.lock"))
	if err != nil {
		return
	}
	for _, name := range guards {
		path := strings.TrimSuffix(name, ".lock")
		if fresh(path) {
			continue
		}
		guard, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if tryLock(guard) && !fresh(path) {
			os.RemoveAll(path)
		}
		guard.Close()
	}
}

func fresh(path string) bool {
	info, err := os.Stat(filepath.Join(path, "password"))
	return err == nil && time.Since(info.ModTime()).Abs() < templateAge
}

// makeTemplate initialises in a folder that the server's user can reach and
// copies the result to path.
func makeTemplate(ctx context.Context, inst Installation, acct *account, path string) error {
	home, owner, err := newHome()
	if err != nil {
		return err
	}
	defer owner.Close()
	defer os.RemoveAll(home)
	data := filepath.Join(home, "data")
	password, err := initdb(ctx, inst, acct, data)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := copyFolder(ctx, data, filepath.Join(path, "data")); err != nil {
		return err
	}
	// The last file written is the one that fresh looks for.
	return os.WriteFile(filepath.Join(path, "password"), []byte(password), 0o600)
}

func initdb(ctx context.Context, inst Installation, acct *account, dir string) (string, error) {
	password := rand.Text()
	verifier, err := scramVerifier(password)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := acct.own(dir); err != nil {
		return "", err
	}
	pwfile := dir + ".pwfile"
	if err := os.WriteFile(pwfile, []byte(verifier), 0o600); err != nil {
		return "", err
	}
	defer os.Remove(pwfile)
	if err := acct.own(pwfile); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(inst.BinDir, "initdb"),
		"-D", dir, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
		"-A", "scram-sha-256", "--pwfile="+pwfile)
	acct.prepare(cmd)
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

func copyFolder(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgserver: copy %s: %w: %s", from, err, strings.TrimSpace(string(out)))
	}
	return nil
}
