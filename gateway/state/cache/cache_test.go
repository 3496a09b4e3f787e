package cache

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, dir string, size int64) (*Cache, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	c, err := Open(dir, size, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, log
}

func wantValue(t *testing.T, c *Cache, key, want string) {
	t.Helper()
	if got, ok := c.Get(key); !ok || string(got) != want {
		t.Errorf("Get(%q) = %.40q, %v, want %.40q", key, got, ok, want)
	}
}

func wantNone(t *testing.T, c *Cache, key string) {
	t.Helper()
	if got, ok := c.Get(key); ok {
		t.Errorf("Get(%q) = %.40q, want none", key, got)
	}
}

func TestValues(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "cache")
	c, log := open(t, dir, DefaultSize)
	wantNone(t, c, "a")
	c.Put("a", []byte("one"))
	c.Put("b", nil)
	wantValue(t, c, "a", "one")
	wantValue(t, c, "b", "")
	c.Put("a", []byte("two"))
	wantValue(t, c, "a", "two")
	c.Delete("b")
	wantNone(t, c, "b")
	c.Delete("never there")

	again, _ := open(t, dir, DefaultSize)
	wantValue(t, again, "a", "two")
	for _, path := range []string{dir, filepath.Join(dir, nameOf("a"))} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v; others must not read it", path, info.Mode(), err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log)
	}
}

func TestNil(t *testing.T) {
	var c *Cache
	c.Put("a", []byte("one"))
	wantNone(t, c, "a")
	c.Delete("a")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Whatever a crash or a disk leaves of a file, a value is whole or absent.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	c, log := open(t, dir, DefaultSize)
	c.Put("a", []byte("some value"))
	path := filepath.Join(dir, nameOf("a"))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := func(name string, data []byte) {
		t.Helper()
		log.Reset()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		wantNone(t, c, "a")
		if !strings.Contains(log.String(), path) {
			t.Errorf("%s: log has no name of the file: %s", name, log)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: file was left there", name)
		}
	}
	for n := range whole {
		damage(fmt.Sprintf("first %d octets", n), whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1
		damage(fmt.Sprintf("octet %d", n), flipped)
		// What ext4 leaves of a file whose data did not get to the disk.
		zeros := bytes.Clone(whole)
		clear(zeros[n:])
		damage(fmt.Sprintf("zeros from octet %d", n), zeros)
	}
	damage("one octet more", append(bytes.Clone(whole), 'x'))
	c.Put("b", []byte("other"))
	other, err := os.ReadFile(filepath.Join(dir, nameOf("b")))
	if err != nil {
		t.Fatal(err)
	}
	damage("another key's", other)
	c.Put("a", []byte("new"))
	wantValue(t, c, "a", "new")
}

func TestLeastRecentlyUsedGoes(t *testing.T) {
	dir := t.TempDir()
	value := bytes.Repeat([]byte("x"), 10_000-headerSize)
	c, _ := open(t, dir, 100_000)
	for i := range 10 {
		c.Put(fmt.Sprint(i), value)
	}
	for name := range c.files { // as if all but one were from yesterday
		if name != nameOf("0") {
			f := c.files[name]
			f.used = f.used.Add(-24 * time.Hour)
			c.files[name] = f
		}
	}
	wantValue(t, c, "3", string(value)) // used again
	c.Put("new", value)
	for _, kept := range []string{"0", "3", "new"} {
		wantValue(t, c, kept, string(value))
	}
	var octets int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		octets += info.Size()
	}
	if octets > 100_000 || octets != c.total {
		t.Errorf("files have %d octets, noted are %d, the limit is 100,000", octets, c.total)
	}
	c.Put("huge", make([]byte, 100_001))
	wantNone(t, c, "huge")
	wantValue(t, c, "new", string(value))
}

// Small files take up more than their octets, and memory for each.
func TestNumberOfFiles(t *testing.T) {
	dir := t.TempDir()
	c, _ := open(t, dir, 10*leastSize)
	for i := range 30 {
		c.Put(fmt.Sprint(i), nil)
	}
	again, _ := open(t, dir, 10*leastSize)
	if n, m := len(c.files), len(again.files); n > 10 || n != m {
		t.Errorf("%d files are noted, and %d there", n, m)
	}
}

// A second process keeps to the limit and to the order of use too.
func TestUseIsKept(t *testing.T) {
	dir := t.TempDir()
	c, _ := open(t, dir, DefaultSize)
	c.Put("a", []byte("one"))
	c.Put("b", []byte("two"))
	yesterday := time.Now().Add(-24 * time.Hour)
	for _, key := range []string{"a", "b"} {
		if err := os.Chtimes(filepath.Join(dir, nameOf(key)), yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	second, _ := open(t, dir, DefaultSize)
	wantValue(t, second, "b", "two")
	third, _ := open(t, dir, DefaultSize)
	if !third.files[nameOf("b")].used.After(third.files[nameOf("a")].used) {
		t.Error("that b was used is not to be seen")
	}
	if third.total != 2*leastSize {
		t.Errorf("total is %d", third.total)
	}
}

func TestUnusableFolder(t *testing.T) {
	occupied := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(occupied, "cache"), DefaultSize, slog.Default()); err == nil || !strings.Contains(err.Error(), occupied) {
		t.Errorf("error %v does not name the folder", err)
	}
}

// A cache that cannot be written is no error of a login, and logged once.
func TestWriteFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c, log := open(t, dir, DefaultSize)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.Put("a", []byte("one"))
	c.Put("b", []byte("two"))
	wantNone(t, c, "a")
	if n := strings.Count(log.String(), "cannot be written"); n != 1 {
		t.Errorf("logged %d times: %s", n, log)
	}
}

func TestLeftOvers(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, tempPrefix+"old"), filepath.Join(dir, tempPrefix+"fresh")
	stranger := filepath.Join(dir, "README")
	for _, path := range []string{old, fresh, stranger} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-2 * tempAge)
	for _, path := range []string{old, stranger} {
		if err := os.Chtimes(path, before, before); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := open(t, dir, 1)
	c.Put("a", nil)
	left, err := fs.Glob(os.DirFS(dir), "*")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(left, " "); got != "README tmp-fresh" {
		t.Errorf("left are %s", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	a, _ := open(t, dir, 50_000)
	b, _ := open(t, dir, 50_000)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 50 {
				c := []*Cache{a, b}[n%2]
				key := fmt.Sprint(n % 7)
				value := strings.Repeat(key, 3000)
				c.Put(key, []byte(value))
				if got, ok := c.Get(key); ok && string(got) != value {
					t.Errorf("goroutine %d: value of %s is %.20q", i, key, got)
				}
				if n%10 == 0 {
					c.Delete(key)
				}
			}
		})
	}
	group.Wait()
}
