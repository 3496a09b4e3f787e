package maildir

import (
	"encoding/binary"
	"errors"
	"io"
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

func sizeOfOne(t *testing.T, a *Adapter) int64 {
	t.Helper()
	d := open(t, a, ann)
	defer closeMaildrop(t, d)
	if d.Len() != 1 {
		t.Fatalf("%d messages", d.Len())
	}
	return d.Size(0)
}

func TestSizeCache(t *testing.T) {
	a, path := oneMaildir(t)
	file := path + "/new/1.m,S=999,W=999"
	write(t, path, "new/1.m,S=999,W=999", "a\nb\n")
	if size := sizeOfOne(t, a); size != 6 {
		t.Errorf("Size is %d, want 6", size)
	}
	if n := len(a.counter.cache.new); n != 0 {
		t.Errorf("%d sizes of files just written are remembered", n)
	}
	age(t, file, time.Hour)
	for range 2 {
		if size := sizeOfOne(t, a); size != 6 {
			t.Errorf("Size is %d, want 6", size)
		}
	}
	if n := len(a.counter.cache.new); n != 1 {
		t.Fatalf("%d sizes are remembered", n)
	}
	// What is remembered is used: here is a false one.
	for k := range a.counter.cache.new {
		a.counter.cache.new[k] = 77
	}
	if size := sizeOfOne(t, a); size != 77 {
		t.Errorf("Size is %d: the file was read again", size)
	}
	// Other flags are no reason to read it again, another content is.
	if err := os.Rename(file, path+"/cur/1.m,S=999,W=999:2,S"); err != nil {
		t.Fatal(err)
	}
	file = path + "/cur/1.m,S=999,W=999:2,S"
	if size := sizeOfOne(t, a); size != 77 {
		t.Errorf("Size is %d: the file was read again", size)
	}
	if err := os.WriteFile(file, []byte("abc\n"), 0o600); err != nil { // as long, in place
		t.Fatal(err)
	}
	if size := sizeOfOne(t, a); size != 5 {
		t.Errorf("Size is %d after a change, want 5", size)
	}
	age(t, file, 2*time.Hour)
	if size := sizeOfOne(t, a); size != 5 {
		t.Errorf("Size is %d, want 5", size)
	}
	// Another file by that name, as long and as old.
	write(t, path, "cur/other", "\n\n\n\n")
	age(t, path+"/cur/other", 0)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path+"/cur/other", info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"/cur/other", file); err != nil {
		t.Fatal(err)
	}
	if size := sizeOfOne(t, a); size != 8 {
		t.Errorf("Size of another file is %d, want 8", size)
	}
}

func TestSizeCacheBound(t *testing.T) {
	var c sizeCache
	key := func(n int) (k fileKey) {
		binary.LittleEndian.PutUint64(k[:], uint64(n))
		return k
	}
	for n := range 3*maxCached + 10 {
		c.put(key(n), int64(n))
		if n%1000 == 0 { // what is asked for stays
			if octets, ok := c.get(key(0)); !ok || octets != 0 {
				t.Fatalf("after %d others the first is %d, %v", n, octets, ok)
			}
		}
	}
	if n := len(c.new) + len(c.old); n > 2*maxCached {
		t.Errorf("%d sizes are remembered, %d at most are allowed", n, 2*maxCached)
	}
	if _, ok := c.get(key(1)); ok {
		t.Error("nothing was forgotten")
	}
	if octets, ok := c.get(key(3 * maxCached)); !ok || octets != 3*maxCached {
		t.Errorf("a late one is %d, %v", octets, ok)
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
