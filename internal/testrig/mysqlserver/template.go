package mysqlserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// template is the data folder of an installation.
func template(inst Installation, acct *throwaway.Account) throwaway.Template {
	return throwaway.Template{
		Name: programName(inst.Flavour) + "-" + inst.Version, Program: inst.Program, Release: inst.Release, Account: acct, Recipe: superuser(""),
		Make: func(ctx context.Context, dir string) (string, error) { return initialise(ctx, inst, acct, dir) },
	}
}

// superuser makes root the only user that can log in, with a password.
func superuser(password string) string {
	return `DELETE FROM mysql.user WHERE user = '' OR user = 'root' AND host <> 'localhost';
FLUSH PRIVILEGES;
ALTER USER 'root'@'localhost' IDENTIFIED BY '` + password + `';
CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY '` + password + `';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
`
}

func initialise(ctx context.Context, inst Installation, acct *throwaway.Account, dir string) (string, error) {
	password := rand.Text()
	tmp := dir + ".tmp" // the system's may be out of the account's reach
	file := dir + ".sql"
	if err := errors.Join(acct.Mkdir(dir), acct.Mkdir(tmp), acct.WriteFile(file, superuser(password))); err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	defer os.Remove(file)
	var cmd *exec.Cmd
	if inst.Flavour == MySQL {
		cmd = inst.build(ctx, "--initialize-insecure", "--datadir="+dir, "--tmpdir="+tmp, "--init-file="+file,
			"--innodb-redo-log-capacity=32M", "--innodb-flush-method=nosync", "--innodb-use-native-aio=OFF", "--skip-log-bin", "--mysqlx=OFF")
	} else {
		script, err := installScript(inst)
		if err != nil {
			return "", err
		}
		cmd = exec.CommandContext(ctx, script, "--no-defaults", "--datadir="+dir, "--tmpdir="+tmp, "--extra-file="+file,
			"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
			"--innodb-log-file-size=32M", "--innodb-flush-method=nosync", "--innodb-use-native-aio=OFF")
	}
	acct.Prepare(cmd, configPrefixes...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mysqlserver: initialise a data folder: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return password, nil
}

// installScript makes a data folder of MariaDB. It lies beside the program or
// in the bin folder beside its own.
func installScript(inst Installation) (string, error) {
	beside := filepath.Dir(inst.Program)
	for _, dir := range []string{beside, filepath.Join(filepath.Dir(beside), "bin"), filepath.Join(filepath.Dir(beside), "scripts")} {
		path := filepath.Join(dir, "mariadb-install-db")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("mysqlserver: there is no mariadb-install-db for %s", inst.Program)
}
