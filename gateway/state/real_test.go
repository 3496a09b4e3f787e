//go:build real

package state

// Tests that need root, a mount or a program. test/run has them.

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRootLocksNobodyOut has root make the file in another user's folder.
func TestRootLocksNobodyOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can make files for others")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, 23456); err != nil {
		t.Fatal(err)
	}
	db, _ := openState(t, dir)
	if _, err := db.Tokens().Save(t.Context(), "a", nil, 0); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 12345 || owner.Gid != 23456 {
			t.Errorf("%s is of %d:%d", path, owner.Uid, owner.Gid)
		}
	}
	if len(files) != 3 {
		t.Errorf("the folder has %q", files)
	}
}

// TestRepair types what the log says, on a file of which a part is overwritten.
func TestRepair(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	db, _ := openState(t, dir)
	const users = 100
	for i := range users {
		c := Change{Listed: []Source{{}}, Add: []Addition{{Kind: KnownChunk, Data: bytes.Repeat([]byte{byte(i)}, 3000)}}}
		if err := db.UIDLs().Apply(t.Context(), fmt.Sprint("u", i), "", c); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt(bytes.Repeat([]byte{0xa5}, 4096), 60*4096)
	f.Close()

	db, _ = openState(t, dir)
	_, said, _ := strings.Cut(fmt.Sprint(db.Err()), "save what can be read: ")
	pipe, said, _ := strings.Cut(said, ", then ")
	copied, _, ok := strings.Cut(said, " and remove ")
	if !ok {
		t.Fatalf("error is %v", db.Err())
	}
	db.Close()
	os.Remove(path + "-wal")
	os.Remove(path + "-shm")
	command := exec.Command("sh", "-ec", pipe+"\n"+copied)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	db, log := openState(t, dir)
	if db.Err() != nil || log.Len() > 0 {
		t.Fatalf("repaired: %v, %s", db.Err(), log)
	}
	known := 0
	for i := range users {
		if chunks, err := db.UIDLs().Chunks(t.Context(), fmt.Sprint("u", i), "", KnownChunk); err != nil {
			t.Error(err)
		} else {
			known += len(chunks)
		}
	}
	if known < users-5 || known == users {
		t.Errorf("%d of %d lists are there", known, users)
	}
	var mode string
	if err := db.writer.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal_mode is %q, %v", mode, err)
	}
	if _, err := db.Tokens().Save(t.Context(), "a", nil, 0); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestFullDisk fills the disk of an open state, and of one that is opened.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("a small disk cannot be mounted: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	db, log := openState(t, dir)
	t.Cleanup(func() { db.Close() }) // before the disk goes
	if _, err := db.Tokens().Save(t.Context(), "before", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	fill := func() {
		t.Helper()
		if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	fill()
	large := bytes.Repeat([]byte("x"), 100_000)
	_, err := db.Tokens().Save(t.Context(), "lost", large, 0)
	if err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("on a full disk Save returns %v", err)
	}
	if _, _, err := db.Tokens().Load(t.Context(), "before"); err != nil {
		t.Errorf("on a full disk what is there cannot be read: %v", err)
	}
	os.Remove(filler)
	if _, err := db.Tokens().Save(t.Context(), "after", large, 0); err != nil {
		t.Errorf("with space again: %v", err)
	}
	db.Close()

	fill()
	full, err := Open(dir, slog.Default())
	if err == nil {
		full.Close()
	} else if errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) {
		t.Errorf("on a full disk Open returns %v", err)
	}
	os.Remove(filler)
	db, _ = openState(t, dir)
	names, err := db.Tokens().Names(t.Context())
	if err != nil || len(names) != 2 {
		t.Errorf("left are %q, %v", names, err)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log)
	}
}
