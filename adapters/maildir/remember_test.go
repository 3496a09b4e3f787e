package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
)

// reads tells how often messages were counted or listed since it was last asked:
// nothing else reads files of the Maildir.
func (a *Adapter) reads() (counted, listed int64) {
	return a.counter.files.Swap(0), a.listings.made.Swap(0)
}

func wantReads(t *testing.T, a *Adapter, counted, listed int64) {
	t.Helper()
	if c, l := a.reads(); c != counted || l != listed {
		t.Errorf("%d files were counted and %d listings made, want %d and %d", c, l, counted, listed)
	}
}

// settle makes the Maildir look as if nothing had happened there for an hour.
func settle(t *testing.T, path string, messages ...string) {
	t.Helper()
	for _, name := range messages {
		age(t, filepath.Join(path, name), time.Hour)
	}
	time.Sleep(2 * clockTick)
}

// sizesOf opens the maildrop and tells its sizes.
func sizesOf(t *testing.T, a *Adapter) string {
	t.Helper()
	d := open(t, a, ann)
	defer closeMaildrop(t, d)
	var sizes []int64
	for i := range d.Len() {
		sizes = append(sizes, d.Size(i))
	}
	return fmt.Sprint(sizes)
}

func wantSizes(t *testing.T, a *Adapter, want string) {
	t.Helper()
	if got := sizesOf(t, a); got != want {
		t.Errorf("sizes are %s, want %s", got, want)
	}
}

// An unchanged Maildir is neither listed nor counted again, a changed one is
// listed, and of its files the new ones are counted.
func TestRemembered(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.m", "a\nb\n")
	write(t, path, "cur/2.m:2,S", "c\n")
	settle(t, path, "new/1.m", "cur/2.m:2,S")
	wantSizes(t, a, "[6 3]")
	wantReads(t, a, 2, 1)
	for range 3 {
		wantSizes(t, a, "[6 3]")
	}
	wantReads(t, a, 0, 0)

	// Flags and new mail.
	if err := os.Rename(path+"/new/1.m", path+"/cur/1.m:2,S"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new/3.m", "new\n")
	settle(t, path, "new/3.m")
	wantSizes(t, a, "[6 3 5]")
	wantReads(t, a, 1, 1)
	wantSizes(t, a, "[6 3 5]")
	wantReads(t, a, 0, 0)

	if err := os.Remove(path + "/cur/2.m:2,S"); err != nil {
		t.Fatal(err)
	}
	wantSizes(t, a, "[6 5]")
	wantReads(t, a, 0, 1)

	// A session's own removals.
	d := open(t, a, ann)
	if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	closeMaildrop(t, d)
	wantSizes(t, a, "[5]")
	if c, _ := a.reads(); c != 0 {
		t.Errorf("%d files were counted after a removal", c)
	}

	// What has the name of another file now is another message's content.
	write(t, path, "new/other", "as\nold\n")
	age(t, path+"/new/other", time.Hour)
	if err := os.Rename(path+"/new/other", path+"/new/3.m"); err != nil {
		t.Fatal(err)
	}
	wantSizes(t, a, "[9]")
}

// A letter from the future is no newer than its file.
func TestFutureIsRemembered(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "Maildir")
		makeMaildir(t, path)
		a := newAdapter(t, Options{Path: path})
		defer a.Close()
		write(t, path, "new/1.m", "a\nb\n")
		info, err := os.Stat(path + "/new/1.m")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(info.ModTime()) + time.Hour) // the time here is another
		age(t, path+"/new/1.m", -1000*time.Hour)
		wantSizes(t, a, "[6]")
		wantReads(t, a, 1, 1)
		wantSizes(t, a, "[6]")
		wantReads(t, a, 0, 0)
	})
}

// A file that was written just now may be written once more without its time
// telling, so it is counted until it is older.
func TestFreshIsNotRemembered(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.m", "a\nb\n")
	write(t, path, "new/2.m", "c\n")
	settle(t, path, "new/2.m")
	wantSizes(t, a, "[6 3]")
	wantReads(t, a, 2, 1)
	wantSizes(t, a, "[6 3]")
	wantReads(t, a, 1, 1)
	settle(t, path, "new/1.m")
	wantSizes(t, a, "[6 3]")
	wantReads(t, a, 1, 1)
	wantSizes(t, a, "[6 3]")
	wantReads(t, a, 0, 0)
}

// A file rewritten in place, which the directory does not show, is never sent
// as what was listed, and the next session lists it as it is.
func TestRewrittenInPlace(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		ok            bool
		want          string // sizes for the next session
	}{
		{"longer", "a\nb\nc\n", false, "[9 3]"},
		{"as long, other octets", "abc\n", false, "[5 3]"},
		{"as long, as many octets", "x\ny\n", true, "[6 3]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, path := oneMaildir(t)
			write(t, path, "cur/1.m", "a\nb\n")
			write(t, path, "cur/2.m", "c\n")
			settle(t, path, "cur/1.m", "cur/2.m")
			wantSizes(t, a, "[6 3]")
			if err := os.WriteFile(path+"/cur/1.m", []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			age(t, path+"/cur/1.m", 2*time.Hour)
			d := open(t, a, ann)
			got, err := read(t, d, 0)
			if tt.ok && (err != nil || got != tt.content) {
				t.Errorf("read %q, %v", got, err)
			}
			if e, ok := errors.AsType[*gateway.Error](err); !tt.ok && (!ok || e.Code != gateway.CodeSysTemp) {
				t.Errorf("read %q, %v; want a message that says to log in again", got, err)
			}
			wantMessage(t, d, 1, "c\n")
			closeMaildrop(t, d)
			wantSizes(t, a, tt.want)
			d = open(t, a, ann)
			wantMessage(t, d, 0, tt.content)
			closeMaildrop(t, d)
		})
	}
}

// Where not even the time of the file tells, RETR finds out, and says so.
func TestRewrittenInSecret(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "cur/1.m", "a\nb\n")
	settle(t, path, "cur/1.m")
	info, err := os.Stat(path + "/cur/1.m")
	if err != nil {
		t.Fatal(err)
	}
	wantSizes(t, a, "[6]")
	if err := os.WriteFile(path+"/cur/1.m", []byte("abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path+"/cur/1.m", info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	d := open(t, a, ann)
	wantMessage(t, d, 0, "abc\n")
	d.CorrectSize(0, 5)
	if d.Size(0) != 5 {
		t.Errorf("Size is %d", d.Size(0))
	}
	closeMaildrop(t, d)
	wantSizes(t, a, "[5]")
}

// Sessions of one maildrop share a listing; what one finds out is none of
// another's.
func TestSharedListing(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "cur/1.m:2,", "a\n")
	write(t, path, "cur/2.m:2,", "b\n")
	settle(t, path, "cur/1.m:2,", "cur/2.m:2,")
	wantSizes(t, a, "[3 3]")
	first := a.listings.get(path)
	d := open(t, a, ann)
	if err := os.Rename(path+"/cur/1.m:2,", path+"/cur/1.m:2,S"); err != nil {
		t.Fatal(err)
	}
	wantMessage(t, d, 0, "a\n") // found by its new name
	if err := d.Delete(t.Context(), []int{1}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	closeMaildrop(t, d)
	if m := first.unpack()[0]; m.name != "1.m:2," || m.suspect {
		t.Errorf("the listing was changed: %+v", m)
	}
	if m := first.unpack()[1]; m.state != readable {
		t.Errorf("the listing was changed: %+v", m)
	}
	wantSizes(t, a, "[3]")
}

func TestListingsBound(t *testing.T) {
	var r listings
	large := &listing{packed: packed{data: make([]byte, maxRemembered/4-listingOctets)}}
	for n := range 20 {
		r.put(fmt.Sprint(n), large)
		if r.get("0") == nil { // what is asked for stays
			t.Fatalf("after %d others the first is gone", n)
		}
	}
	if r.octets > maxRemembered || len(r.byPath) != r.recent.Len() || len(r.byPath) > 4 {
		t.Errorf("%d listings of %d octets are remembered", len(r.byPath), r.octets)
	}
	if r.get("19") == nil || r.get("1") != nil {
		t.Error("others than those used last are remembered")
	}
	r.put("0", &listing{packed: packed{data: make([]byte, maxRemembered)}})
	if r.get("0") != nil {
		t.Error("a listing larger than all room is remembered")
	}
	for n := range 20 {
		r.forget(fmt.Sprint(n))
	}
	if r.octets != 0 || r.recent.Len() != 0 {
		t.Errorf("%d octets are left of none", r.octets)
	}
}

func TestReadDirLongNames(t *testing.T) {
	a, path := oneMaildir(t)
	want := map[string]bool{}
	for i := range 2000 { // more than a buffer full
		name := fmt.Sprintf("%d.%s", i, strings.Repeat("x", i%200))
		want[name] = true
		write(t, path, "cur/"+name, "x\n")
	}
	d := open(t, a, ann)
	defer closeMaildrop(t, d)
	for i := range d.Len() {
		m := d.d.message(i)
		info, err := os.Lstat(path + "/cur/" + m.name)
		if err != nil || !want[m.name] || info.Size() != m.file.size {
			t.Fatalf("%q: %v", m.name, err)
		}
		delete(want, m.name)
	}
	if len(want) > 0 {
		t.Errorf("%d names are missing", len(want))
	}
}
