package maildir

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
)

// occupy takes all slots for counting, so that no listing gets on.
func occupy(a *Adapter) (free func()) {
	for range cap(a.counter.slots) {
		a.counter.slots <- struct{}{}
	}
	return func() {
		for range cap(a.counter.slots) {
			<-a.counter.slots
		}
	}
}

func wantUnavailable(t *testing.T, a *Adapter, text string) {
	t.Helper()
	_, err := a.Open(t.Context(), ann)
	if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Code != gateway.CodeSysTemp || !strings.Contains(e.Text, text) {
		t.Errorf("Open: %v, want [SYS/TEMP] with %q", err, text)
	}
}

// A login that is out of patience is told to come again, and so is the next.
// The listing goes on, and files are counted once.
func TestFirstListing(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.m", "a\n")
	write(t, path, "cur/2.m", "b\nc\n")
	settle(t, path, "new/1.m", "cur/2.m")
	free := occupy(a)
	a.patience = 100 * time.Millisecond
	wantUnavailable(t, a, "0 of 2 are done, try again")
	wantUnavailable(t, a, "0 of 2 are done, try again")
	a.patience = time.Minute
	free()
	wantSizes(t, a, "[3 6]")
	wantSizes(t, a, "[3 6]")
	wantReads(t, a, 2, 1)
	if a.makings.get(path) != nil {
		t.Error("the listing is still in the making")
	}
}

// Logins while a listing ends, which still has the lock, are never told that another
// session has it.
func TestLoginsAtTheEndOfAListing(t *testing.T) {
	a, path := oneMaildir(t)
	a.patience = time.Microsecond
	for i := range 20 {
		a.listings.forget(path)
		write(t, path, "new/1.m", strings.Repeat("a", i)+"\n") // to be counted anew
		free := occupy(a)
		wantUnavailable(t, a, "try again in a while")
		go free()
		for {
			d, err := a.Open(t.Context(), ann)
			if err == nil {
				d.Close()
				break
			}
			if gateway.CodeOf(err) != gateway.CodeSysTemp {
				t.Fatalf("listing %d: %v", i, err)
			}
		}
	}
}

// The end of the gateway is the end of a listing, however long that would take.
func TestCloseWhileCounting(t *testing.T) {
	a, path := oneMaildir(t)
	// A hole takes no space, and reading it would take minutes.
	write(t, path, "new/1.huge", "")
	if err := os.Truncate(path+"/new/1.huge", 1<<40); err != nil {
		t.Fatal(err)
	}
	settle(t, path)
	a.patience = 100 * time.Millisecond
	wantUnavailable(t, a, "0 of 1 are done")
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if a.makings.get(path) != nil || a.listings.get(path) != nil {
		t.Error("something is left of the listing")
	}
	unlock, err := newFolder(t, path).lock(t.Context(), a.locks)
	if err != nil {
		t.Fatalf("the maildrop is still locked: %v", err)
	}
	unlock()
}

func newFolder(t *testing.T, path string) *folder {
	t.Helper()
	f, err := openFolder(path, ".", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close() })
	return f
}

func TestFirstListingTimeout(t *testing.T) {
	_, err := New(Options{Path: "/x/{user}", FirstListingTimeout: -time.Second}, new(gateway.Locks), nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.HasPrefix(err.Error(), "first_listing_timeout: ") {
		t.Errorf("New: %v", err)
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := &work{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))}
		ended := make(chan struct{})
		go w.report(ended)
		w.all.Store(100_000)
		for range 2 {
			time.Sleep(reportInterval + time.Second)
			w.done.Add(30_000)
		}
		w.done.Store(100_032) // whole batches
		close(ended)
		synctest.Wait()
		want := `level=INFO msg="messages are counted for the first time" done=0 of=100000 since=10s
level=INFO msg="messages are counted for the first time" done=30000 of=100000 since=20s
level=INFO msg="counting messages has ended" done=100000 of=100000 took=22s
`
		if log.String() != want {
			t.Errorf("logged\n%s\nwant\n%s", &log, want)
		}

		log.Reset()
		ended = make(chan struct{})
		go w.report(ended)
		time.Sleep(reportInterval - 1)
		close(ended)
		synctest.Wait()
		if log.Len() > 0 {
			t.Errorf("a short listing is logged: %s", &log)
		}
	})
}
