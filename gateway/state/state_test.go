package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pop3gw/gateway"
)

// open opens the state of dir, with what it logs.
func openState(t *testing.T, dir string) (*DB, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	db, err := Open(dir, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, log
}

func TestFilesAreForNobodyElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	db, _ := openState(t, dir)
	if _, err := db.Tokens().Save(t.Context(), "a", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	seen := 0
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		info, err := d.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s is %v", path, info.Mode())
		}
		seen++
		return nil
	})
	if seen != 4 { // the folder, the file, -wal and -shm
		t.Errorf("%d files", seen)
	}
}

func TestTwoProcesses(t *testing.T) {
	if dir := os.Getenv("STATE_TEST_DIR"); dir != "" { // the other process
		db, _ := openState(t, dir)
		for i := range 50 {
			if _, err := db.Tokens().Save(t.Context(), fmt.Sprintf("other %d", i), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	dir := t.TempDir()
	db, _ := openState(t, dir)
	cmd := exec.Command(os.Args[0], "-test.run=^TestTwoProcesses$")
	cmd.Env = append(os.Environ(), "STATE_TEST_DIR="+dir)
	var all sync.WaitGroup
	all.Go(func() {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	for session := range 4 {
		all.Go(func() {
			for i := range 50 {
				if _, err := db.Tokens().Save(t.Context(), fmt.Sprintf("session %d %d", session, i), nil, 0); err != nil {
					t.Error(err)
				}
				if _, err := db.Tokens().Names(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	list, err := db.Tokens().Names(t.Context())
	if err != nil || len(list) != 250 {
		t.Errorf("%d values, %v", len(list), err)
	}
}

func TestUnusableFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	os.MkdirAll(filepath.Join(dir, "a", FileName), 0o700)
	for _, path := range []string{file, file + "/below", filepath.Join(dir, "a")} {
		if db, err := Open(path, slog.New(slog.DiscardHandler)); err == nil {
			db.Close()
			t.Errorf("%s was opened", path)
		}
	}
}

func TestLaterVersion(t *testing.T) {
	dir := t.TempDir()
	db, _ := openState(t, dir)
	db.writer.Exec("PRAGMA user_version = 1000")
	db.Close()
	_, err := Open(dir, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "later version of pop3gw (1000") {
		t.Errorf("error is %v", err)
	}
}

// TestDamage has files that were cut, overwritten, emptied or are another's. None
// may look like one that knows nothing.
func TestDamage(t *testing.T) {
	made := t.TempDir()
	db, _ := openState(t, made)
	for i := range 200 {
		if _, err := db.Tokens().Save(t.Context(), fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 500), 0); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	whole, err := os.ReadFile(filepath.Join(made, FileName))
	if err != nil {
		t.Fatal(err)
	}
	overwrite := func(at, n int) []byte {
		b := bytes.Clone(whole)
		copy(b[at:at+n], bytes.Repeat([]byte{0xa5}, n))
		return b
	}
	for name, content := range map[string][]byte{
		"empty":           {},
		"one octet":       {'S'},
		"half":            whole[:len(whole)/2/4096*4096],
		"torn page":       whole[:len(whole)/2/4096*4096+77],
		"first page only": whole[:4096],
		"header":          overwrite(0, 100),
		"schema":          overwrite(100, 3996),
		"a page":          overwrite(len(whole)/2/4096*4096, 4096),
		"text":            []byte("this is not a database, it is a text of some length ............................."),
		"zeros":           make([]byte, 8192),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Check(t.Context(), dir); !errors.Is(err, ErrDamaged) {
				t.Errorf("the check says %v", err)
			}
			db, log := openState(t, dir)
			_, _, err := db.Tokens().Load(t.Context(), "7")
			if !errors.Is(err, ErrDamaged) || gateway.CodeOf(err) != gateway.CodeSysTemp {
				t.Errorf("reading: %v", err)
			}
			if err := db.Journal().Put(t.Context(), "a", nil); !errors.Is(err, ErrDamaged) {
				t.Errorf("writing: %v", err)
			}
			if db.Err() == nil {
				t.Error("no error in all")
			}
			if got := log.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, "put a backup in its place") || !strings.Contains(got, path) {
				t.Errorf("log is %s", got)
			}
			db.Close()
			if after, _ := os.ReadFile(path); !bytes.Equal(after, content) {
				t.Error("the damaged file was changed")
			}
		})
	}
}

// TestDamageLater has the file overwritten while it is open.
func TestDamageLater(t *testing.T) {
	dir := t.TempDir()
	db, log := openState(t, dir)
	if _, err := db.Tokens().Save(t.Context(), "a", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	db.writer.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	db.reader.SetMaxIdleConns(0) // none has it in its cache
	db.reader.SetMaxIdleConns(1)
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size())-4096), 4096)
	f.Close()
	if _, _, err := db.Tokens().Load(t.Context(), "a"); !errors.Is(err, ErrDamaged) {
		t.Errorf("reading: %v", err)
	}
	if !strings.Contains(log.String(), ".dump") {
		t.Errorf("log is %s", log)
	}
}

func TestCheckChangesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := Check(t.Context(), dir); err != nil {
		t.Error(err)
	}
	db, _ := openState(t, dir)
	if _, err := db.Tokens().Save(t.Context(), "a", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), dir); err != nil { // while it is in use
		t.Error(err)
	}
	db.Close()
	if err := Check(t.Context(), dir); err != nil {
		t.Error(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("the folder has %v", entries)
	}
}

// TestWaitIsBounded has another process keep the file for ever.
func TestWaitIsBounded(t *testing.T) {
	dir := t.TempDir()
	db, _ := openState(t, dir)
	other, _ := openState(t, dir)
	tx, err := other.writer.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, _, err := db.Tokens().Load(t.Context(), "a"); err != nil {
		t.Errorf("a reader waits for a writer: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = db.Tokens().Save(ctx, "a", nil, 0)
	if gateway.CodeOf(err) != gateway.CodeSysTemp || db.Err() != nil {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(began); took > busyLimit+time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	db, _ := openState(t, dir)
	ctx := t.Context()
	if _, revision, err := db.Tokens().Load(ctx, "a"); revision != 0 || err != nil {
		t.Errorf("%v, %v", revision, err)
	}
	var revisions []int64
	for _, value := range []string{"1", "2"} {
		revision, err := db.Tokens().Save(ctx, "a", []byte(value), 0)
		if err != nil || revision == 0 {
			t.Fatal(revision, err)
		}
		revisions = append(revisions, revision)
	}
	save := func(value string, old int64, stored bool) (revision int64) {
		t.Helper()
		revision, err := db.Tokens().Save(ctx, "a", []byte(value), old)
		if err != nil || stored != (revision != 0) {
			t.Errorf("Save in place of %d: %d, %v", old, revision, err)
		}
		return revision
	}
	save("old", revisions[0], false)
	third := save("3", revisions[1], true)
	save("again", revisions[1], false)
	db.Close()
	db, _ = openState(t, dir)
	value, revision, err := db.Tokens().Load(ctx, "a")
	if string(value) != "3" || revision != third || err != nil {
		t.Errorf("%q, %v, %v", value, revision, err)
	}
	if names, err := db.Tokens().Names(ctx); err != nil || len(names) != 1 || names[0] != "a" {
		t.Errorf("%v, %v", names, err)
	}
	for _, want := range []bool{true, false} {
		if found, err := db.Tokens().Remove(ctx, "a"); found != want || err != nil {
			t.Errorf("%v, %v", found, err)
		}
	}
	save("gone", third, false)
}

func TestLeases(t *testing.T) {
	dir := t.TempDir()
	db, _ := openState(t, dir)
	other, _ := openState(t, dir)
	ctx := t.Context()
	lease := func(db *DB, name, holder string, lasting time.Duration, want bool) {
		t.Helper()
		if held, err := db.Tokens().Lease(ctx, name, holder, time.Now().Add(lasting)); held != want || err != nil {
			t.Errorf("%s for %s: %v, %v", name, holder, held, err)
		}
	}
	lease(db, "a", "one", time.Minute, true)
	lease(db, "a", "one", time.Minute, true)
	lease(other, "a", "two", time.Minute, false)
	lease(other, "b", "two", time.Minute, true)
	if err := other.Tokens().Release(ctx, "a", "two"); err != nil {
		t.Error(err)
	}
	lease(other, "a", "two", time.Minute, false)
	if err := db.Tokens().Release(ctx, "a", "one"); err != nil {
		t.Error(err)
	}
	lease(other, "a", "two", -time.Second, true) // over at once
	lease(db, "a", "one", time.Minute, true)
}

func TestJournal(t *testing.T) {
	db, _ := openState(t, t.TempDir())
	ctx := t.Context()
	if _, _, ok, err := db.Journal().Get(ctx, "a"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	for _, entry := range []string{"first", "second"} {
		if err := db.Journal().Put(ctx, "a", []byte(entry)); err != nil {
			t.Fatal(err)
		}
	}
	entry, written, ok, err := db.Journal().Get(ctx, "a")
	if string(entry) != "second" || time.Since(written) > time.Minute || !ok || err != nil {
		t.Errorf("%q, %v, %v, %v", entry, written, ok, err)
	}
	if err := db.Journal().Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
	if _, _, ok, _ := db.Journal().Get(ctx, "a"); ok {
		t.Error("it is still there")
	}
}

func TestRetrieved(t *testing.T) {
	db, _ := openState(t, t.TempDir())
	ctx := t.Context()
	day := time.Unix(1_000_000_000, 0)
	mark := func(at time.Time, messages ...string) {
		t.Helper()
		var keys [][]byte
		for _, m := range messages {
			keys = append(keys, []byte(m))
		}
		if err := db.Retrieved().Mark(ctx, "drop", at, keys...); err != nil {
			t.Fatal(err)
		}
	}
	before := func(at time.Time) string {
		t.Helper()
		keys, err := db.Retrieved().Before(ctx, "drop", at, 10)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s", keys)
	}
	mark(day, "a", "b")
	mark(day.Add(time.Hour), "a", "c") // a was retrieved before
	if got := before(day.Add(time.Second)); got != "[a b]" {
		t.Errorf("before: %s", got)
	}
	if got := before(day.Add(2 * time.Hour)); got != "[a b c]" {
		t.Errorf("in all: %s", got)
	}
	if err := db.Retrieved().Forget(ctx, "drop", []byte("a")); err != nil {
		t.Fatal(err)
	}
	if got := before(day.Add(2 * time.Hour)); got != "[b c]" {
		t.Errorf("after that: %s", got)
	}
	if keys, _ := db.Retrieved().Before(ctx, "other", day.Add(time.Hour), 10); len(keys) != 0 {
		t.Errorf("another maildrop has %s", keys)
	}
}
