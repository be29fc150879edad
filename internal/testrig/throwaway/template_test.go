package throwaway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counted is a template whose password is how often it has been made.
func counted(t *testing.T) (tmpl Template, made *atomic.Int64) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir()) // for systems that do not know the former
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	made = new(atomic.Int64)
	return Template{Name: "test", Program: program, Make: func(_ context.Context, dir string) (string, error) {
		n := fmt.Sprint(made.Add(1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", err
		}
		return n, os.WriteFile(filepath.Join(dir, "file"), []byte(n), 0o600)
	}}, made
}

func TestATemplateIsMadeOnceHoweverManyAskForIt(t *testing.T) {
	tmpl, made := counted(t)
	parent := t.TempDir()
	var wg, begun sync.WaitGroup
	begun.Add(8)
	quick := tmpl.Make
	tmpl.Make = func(ctx context.Context, dir string) (string, error) {
		begun.Wait()
		<-time.After(100 * time.Millisecond) // the others find none by then, unless this machine is slow
		return quick(ctx, dir)
	}
	for i := range 8 {
		wg.Go(func() {
			begun.Done()
			dir := filepath.Join(parent, fmt.Sprint(i))
			password, err := tmpl.Copy(t.Context(), dir)
			text, readErr := os.ReadFile(filepath.Join(dir, "file"))
			if err != nil || readErr != nil || password != "1" || string(text) != "1" {
				t.Errorf("password %q (%v), file %q (%v)", password, err, text, readErr)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("it was made %d times", made.Load())
	}
}

func TestATemplateOfAnotherRecipeIsAnotherOne(t *testing.T) {
	tmpl, _ := counted(t)
	parent := t.TempDir()
	for i, change := range []func(){
		func() {}, func() { tmpl.Recipe = "other" }, func() { tmpl.Release = "other" }, func() { tmpl.Name = "other" }, func() { tmpl.Program = parent },
	} {
		change()
		if password, err := tmpl.Copy(t.Context(), filepath.Join(parent, fmt.Sprint(i))); err != nil || password != fmt.Sprint(i+1) {
			t.Errorf("change %d: password %q, %v", i, password, err)
		}
	}
}

func TestOldTemplatesAreReplaced(t *testing.T) {
	tmpl, _ := counted(t)
	copied := func() string {
		t.Helper()
		password, err := tmpl.Copy(t.Context(), filepath.Join(t.TempDir(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		return password
	}
	first := copied()
	if again := copied(); again != first {
		t.Error("a fresh template was not used again")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	templates := filepath.Join(cache, templatesFolder)
	if err := os.MkdirAll(filepath.Join(templates, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"other.lock", "other/password"} {
		if err := os.WriteFile(filepath.Join(templates, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	passwords, err := filepath.Glob(filepath.Join(templates, "*", "password"))
	if err != nil || len(passwords) != 2 {
		t.Fatal(passwords, err)
	}
	old := time.Now().Add(-TemplateAge - time.Hour)
	for _, path := range passwords {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if again := copied(); again == first {
		t.Error("an old template was used")
	}
	if left, err := filepath.Glob(filepath.Join(templates, "*", "password")); err != nil || len(left) != 1 {
		t.Errorf("the new template is to be left alone: %v, %v", left, err)
	}
}
