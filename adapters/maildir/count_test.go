package maildir

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// age makes a file as old as those whose sizes are remembered.
func age(t testing.TB, path string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

// A panic while messages are counted ends that listing alone.
func TestCountingPanics(t *testing.T) {
	a, path := oneMaildir(t)
	f, err := openFolder(path, ".", "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	var log bytes.Buffer
	w := &work{log: slog.New(slog.NewTextHandler(&log, nil))}
	err = a.counter.measure(t.Context(), f, []message{{name: "1.m", in: 2}}, w) // of no directory
	if err == nil || !strings.Contains(log.String(), "please report it") {
		t.Errorf("%v, and the log has %s", err, &log)
	}
}

// TestBodyChanges checks that a message never looks complete when its file
// changed while it was read.
func TestBodyChanges(t *testing.T) {
	content := strings.Repeat("0123456789\n", 10000)
	for name, change := range map[string]func(path string) error{
		"shrinks":   func(path string) error { return os.Truncate(path, 50000) },
		"empties":   func(path string) error { return os.Truncate(path, 0) },
		"grows":     func(path string) error { return os.Truncate(path, 200000) },
		"rewritten": func(path string) error { return os.WriteFile(path, []byte(strings.ToUpper(content)), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			a, path := oneMaildir(t)
			write(t, path, "new/1.m", content)
			age(t, path+"/new/1.m", time.Hour)
			d := open(t, a, ann)
			defer closeMaildrop(t, d)
			r, err := d.Retrieve(t.Context(), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Join(path, "new/1.m")); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(r)
			if !errors.Is(err, errChanged) || errors.Is(err, io.EOF) {
				t.Errorf("after %d octets: %v", 1000+len(rest), err)
			}
		})
	}
	t.Run("removed", func(t *testing.T) {
		a, path := oneMaildir(t)
		write(t, path, "new/1.m", content)
		d := open(t, a, ann)
		defer closeMaildrop(t, d)
		r, err := d.Retrieve(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := os.Remove(path + "/new/1.m"); err != nil {
			t.Fatal(err)
		}
		// An open file outlives its name.
		if rest, err := io.ReadAll(r); err != nil || string(rest) != content {
			t.Errorf("%d octets, %v", len(rest), err)
		}
	})
}
