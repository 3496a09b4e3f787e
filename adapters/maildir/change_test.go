package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pop3gw/gateway"
)

// TestRenamed has other programs rename and remove files in the session.
func TestRenamed(t *testing.T) {
	a, path := oneMaildir(t)
	for n := range 6 {
		write(t, path, fmt.Sprintf("new/%d.m", n+1), fmt.Sprintf("%d\n", n))
	}
	d := open(t, a, ann)
	before := uids(d)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(path, from), filepath.Join(path, to)); err != nil {
			t.Fatal(err)
		}
	}
	move("new/1.m", "cur/1.m:2,")
	move("new/2.m", "new/2.m:2,S")
	wantMessage(t, d, 0, "0\n")
	wantMessage(t, d, 1, "1\n")
	move("cur/1.m:2,", "cur/1.m:2,FS")
	wantMessage(t, d, 0, "0\n")
	move("cur/1.m:2,FS", "new/1.m") // back to where it was
	wantMessage(t, d, 0, "0\n")
	if err := os.Remove(path + "/new/3.m"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := read(t, d, 2); err == nil || !strings.Contains(err.Error(), "removed by another program") {
			t.Errorf("a removed message: %v", err)
		}
	}
	// A name that only begins alike is another message.
	move("new/4.m", "new/4.more")
	if _, err := read(t, d, 3); gateway.CodeOf(err) != "" {
		t.Errorf("a message under another base name: %v", err)
	}
	wantMessage(t, d, 4, "4\n")
	// Another program wrote a message anew, by its name.
	write(t, path, "cur/6.m:2,S", "other\n")
	if err := os.Remove(path + "/new/6.m"); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, d, 5); gateway.CodeOf(err) != gateway.CodeSysTemp {
		t.Errorf("a replaced message: %v", err)
	}
	write(t, path, "new/0.m", "new mail that sorts first\n")
	wantMessage(t, d, 4, "4\n")
	if got := uids(d); !slices.Equal(got, before) {
		t.Errorf("the UIDs were %q and are %q", before, got)
	}
	move("new/5.m", "cur/5.m:2,T")

	var removed []int
	err := d.Delete(t.Context(), []int{0, 1, 2, 3, 4, 5}, func(i int) { removed = append(removed, i) })
	if err == nil || !strings.Contains(err.Error(), "1 of 6 marked messages remain") {
		t.Errorf("Delete: %v", err)
	}
	if !slices.Equal(removed, []int{0, 1, 2, 3, 4}) {
		t.Errorf("removed %v", removed)
	}
	closeMaildrop(t, d)
	if got, want := files(t, path), []string{"new/0.m", "new/4.more", "cur/6.m:2,S"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

// TestAllRenamed is a client that opens a large maildrop in new while another
// takes everything to cur: one search must do for all.
func TestAllRenamed(t *testing.T) {
	a, path := oneMaildir(t)
	const n = 3000
	for i := range n {
		write(t, path, fmt.Sprintf("new/%d.m", 1000+i), fmt.Sprintf("%d\n", i))
	}
	d := open(t, a, ann)
	for i := range n {
		name := fmt.Sprintf("%d.m", 1000+i)
		if err := os.Rename(path+"/new/"+name, path+"/cur/"+name+":2,S"); err != nil {
			t.Fatal(err)
		}
	}
	wantMessage(t, d, n/2, fmt.Sprintf("%d\n", n/2))
	for i := range d.d.all() {
		if m := d.d.view(i); m.in != inCur || m.name != m.base()+":2,S" {
			t.Fatalf("message %d is still known as %s", i, d.d.path(m))
		}
	}
	marked := make([]int, n)
	for i := range marked {
		marked[i] = i
	}
	if err := d.Delete(t.Context(), marked, func(int) {}); err != nil {
		t.Error(err)
	}
	closeMaildrop(t, d)
	if left := files(t, path); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

// rename changes flags and directories of the files of a Maildir, at random,
// until stop is called. Each exists all the time, unless the session removes it.
func rename(t *testing.T, path string, pause time.Duration) (stop func()) {
	names := files(t, path)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-done:
				return
			case <-time.After(pause):
			}
			for range 5 {
				k := r.IntN(len(names))
				base := baseName(names[k][len("new/"):])
				to := []string{"new/" + base, "cur/" + base + ":2,", "cur/" + base + ":2,S", "cur/" + base + ":2,FS"}[r.IntN(4)]
				if err := os.Rename(filepath.Join(path, names[k]), filepath.Join(path, to)); err == nil {
					names[k] = to
				} else if !errors.Is(err, fs.ErrNotExist) { // removed by the session
					t.Error(err)
					return
				}
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// TestRenameRace lists, reads and removes while files are renamed all the time.
// A session may be told to try again, but no message may be missing or twice.
func TestRenameRace(t *testing.T) {
	a, path := oneMaildir(t)
	const n = 2000
	var want []string
	for i := range n {
		base := fmt.Sprintf("%d.race", 1000+i)
		want = append(want, base)
		write(t, path, "new/"+base, base+"\n")
	}
	stop := rename(t, path, 200*time.Microsecond)
	defer stop()
	busy := func(err error) bool { return gateway.CodeOf(err) == gateway.CodeSysTemp }
	done := 0
	for range 10 {
		m, err := a.Open(t.Context(), ann)
		if busy(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		done++
		d := m.(*drop)
		if got := uids(d); !slices.Equal(got, want) {
			t.Errorf("%d messages are listed, want %d", len(got), n)
		}
		for i := 0; i < n; i += 200 {
			text, err := read(t, d, i)
			if !busy(err) && (err != nil || text != want[i]+"\n") {
				t.Errorf("message %d is %q, %v", i, text, err)
			}
		}
		closeMaildrop(t, d)
	}
	t.Logf("%d of 10 sessions began", done)
	if done == 0 {
		t.Fatal("no session began")
	}
	var d *drop
	for d == nil {
		m, err := a.Open(t.Context(), ann)
		if err == nil {
			d = m.(*drop)
		} else if !busy(err) {
			t.Fatal(err)
		}
	}
	// Half of them go, if need be in several sessions, and only those.
	var marked []int
	for i := 0; i < n; i += 2 {
		marked = append(marked, i)
	}
	removed := 0
	err := d.Delete(t.Context(), marked, func(int) { removed++ })
	if (err == nil) != (removed == len(marked)) {
		t.Errorf("%d of %d were removed: %v", removed, len(marked), err)
	}
	stop()
	closeMaildrop(t, d)
	if got := len(files(t, path)); got != n-removed {
		t.Errorf("%d messages are left, %d were removed", got, removed)
	}
	d = open(t, a, ann)
	marked = marked[:0]
	for i, uid := range uids(d) {
		if slices.Index(want, uid)%2 == 0 {
			marked = append(marked, i)
		}
	}
	if err := d.Delete(t.Context(), marked, func(int) {}); err != nil {
		t.Error(err)
	}
	closeMaildrop(t, d)
	var left []string
	for _, name := range files(t, path) {
		left = append(left, baseName(name[len("new/"):]))
	}
	slices.Sort(left)
	var odd []string
	for i := 1; i < n; i += 2 {
		odd = append(odd, want[i])
	}
	if !slices.Equal(left, odd) {
		t.Errorf("%d messages are left, want the %d unmarked ones", len(left), len(odd))
	}
}
