package state

import (
	"fmt"
	"sync"
	"testing"
)

// What another connection has committed is seen at once, whatever becomes of the
// write-ahead log meanwhile.
func TestLoadSeesEveryCommit(t *testing.T) {
	dir := t.TempDir()
	here, _ := openState(t, dir)
	there, _ := openState(t, dir)
	for i := 1; i <= 300; i++ {
		user := fmt.Sprint("user", i%3)
		for _, db := range []*DB{here, there} { // so that it is remembered
			if _, _, err := db.UIDLs().Load(t.Context(), user, ""); err != nil {
				t.Fatal(err)
			}
		}
		writer := []*DB{here, there}[i%2]
		if err := writer.UIDLs().Apply(t.Context(), user, "", Change{Listed: []Source{{Form: "%u"}}, Count: i}); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 {
			mode := []string{"PASSIVE", "RESTART", "TRUNCATE"}[i%3]
			if _, err := writer.writer.Exec("PRAGMA wal_checkpoint(" + mode + ")"); err != nil {
				t.Fatal(err)
			}
		}
		for _, db := range []*DB{here, there} {
			if m, ok, err := db.UIDLs().Load(t.Context(), user, ""); m.Count != i || !ok || err != nil {
				t.Fatalf("count %d, %v, %v; want %d", m.Count, ok, err, i)
			}
		}
	}
}

// A query is spared as long as nobody commits.
func TestLoadIsRemembered(t *testing.T) {
	db, _ := openState(t, t.TempDir())
	asked := 0
	load := func(user string) {
		t.Helper()
		_, _, err := db.recent.load(ownerOf{user, ""}, func() (Maildrop, bool, error) { asked++; return Maildrop{}, false, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		load("a")
		load("b")
	}
	if asked != 2 {
		t.Errorf("%d queries for two users", asked)
	}
	if err := db.UIDLs().Apply(t.Context(), "c", "", Change{Count: 1}); err != nil {
		t.Fatal(err)
	}
	load("a")
	load("a")
	if asked != 3 {
		t.Errorf("%d queries; want another one after a commit", asked)
	}
}

// A commit that ends between the stamp and the query, or while many load, is never
// hidden by what one of them remembers.
func TestLoadWhileOthersCommit(t *testing.T) {
	dir := t.TempDir()
	here, _ := openState(t, dir)
	there, _ := openState(t, dir)
	var loading sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		loading.Go(func() {
			last := 0
			for {
				select {
				case <-over:
					return
				default:
				}
				m, _, err := here.UIDLs().Load(t.Context(), "u", "")
				if err != nil || m.Count < last {
					t.Errorf("count %d after %d, %v", m.Count, last, err)
					return
				}
				last = m.Count
			}
		})
	}
	for i := 1; i <= 200; i++ {
		if err := there.UIDLs().Apply(t.Context(), "u", "", Change{Listed: []Source{{}}, Count: i}); err != nil {
			t.Fatal(err)
		}
		if m, _, err := here.UIDLs().Load(t.Context(), "u", ""); m.Count != i || err != nil {
			t.Fatalf("count %d, %v; want %d", m.Count, err, i)
		}
	}
	close(over)
	loading.Wait()
}
