//go:build real

package cache

// Tests that need a mount. test/run has them.

import (
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

// TestFullDisk fills the disk of an open cache, and takes the inodes of one that is
// opened.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=8", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("a small disk cannot be mounted: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	c, log := open(t, dir, DefaultSize)
	large := strings.Repeat("x", 100_000)
	c.Put("before", []byte("one"))
	c.Put("large", []byte(large))
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	c.Put("large", []byte(large+"new"))
	c.Put("lost", []byte(large))
	if n := strings.Count(log.String(), "cannot be written"); n != 1 {
		t.Errorf("logged %d times: %s", n, log)
	}
	wantValue(t, c, "before", "one")
	wantNone(t, c, "lost")
	os.Remove(filler)
	c.Put("after", []byte(large))
	wantValue(t, c, "after", large)

	for i := range 8 {
		os.WriteFile(fmt.Sprint(filler, i), nil, 0o600)
	}
	if _, err := Open(dir, DefaultSize, slog.Default()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
		t.Errorf("without inodes Open returns %v", err)
	}
}
