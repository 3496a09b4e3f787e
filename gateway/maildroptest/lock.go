package maildroptest

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pop3gw/gateway"
)

func testLock(t *testing.T, f Fixture) {
	messages := samples(2)
	account := f.Create(t, messages)
	other := f.Create(t, messages)
	d := open(t, f, account)
	start := time.Now()
	if second, err := f.Adapter.Open(t.Context(), account); err == nil {
		second.Close()
		t.Error("a second session opened the maildrop")
	} else if code := gateway.CodeOf(err); code != gateway.CodeInUse {
		t.Errorf("a second session gets code %q: %v; want %q", code, err, gateway.CodeInUse)
	}
	if waited := time.Since(start); waited > time.Second {
		t.Errorf("a busy maildrop is refused after %v, want at once", waited)
	}
	// The refused session did not harm the one that holds the lock.
	if got := retrieve(t, d, 1, -1); !bytes.Equal(sent(t, got), messages[1]) {
		t.Errorf("message 1 is %s", excerpt(got))
	}
	closeMaildrop(t, open(t, f, other))
	closeMaildrop(t, d)
	d = open(t, f, account)
	wantRemoved(t, d, []int{0}, nil)
	// The lock lasts through UPDATE.
	if second, err := f.Adapter.Open(t.Context(), account); err == nil {
		second.Close()
		t.Error("a second session opened the maildrop between Delete and Close")
	}
	closeMaildrop(t, d)
	closeMaildrop(t, open(t, f, account))
}

// testLockRace has many sessions at once ask for one maildrop, again and again:
// no two hold it together, and nobody is refused for another reason.
func testLockRace(t *testing.T, f Fixture) {
	account := f.Create(t, samples(3))
	var holders, opened atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				d, err := f.Adapter.Open(t.Context(), account)
				if err != nil {
					if gateway.CodeOf(err) != gateway.CodeInUse {
						t.Errorf("Open: %v", err)
					}
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d sessions hold the maildrop", n)
				}
				opened.Add(1)
				if d.Len() != 3 {
					t.Errorf("Len is %d", d.Len())
				}
				holders.Add(-1)
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if opened.Load() == 0 {
		t.Error("no session got the maildrop")
	}
	closeMaildrop(t, open(t, f, account))
}

// testAccounts has sessions of different accounts work at the same time.
func testAccounts(t *testing.T, f Fixture) {
	const accounts = 6
	messages := samples(10)
	var wg sync.WaitGroup
	for n := range accounts {
		account := f.Create(t, messages)
		wg.Go(func() {
			if err := session(t, f, account, messages, n); err != nil {
				t.Errorf("account %d: %v", n, err)
				return
			}
			left := append(append([][]byte{}, messages[:n]...), messages[n+1:]...)
			wantStored(t, f, account, left)
		})
	}
	wg.Wait()
}

// session reads every message and removes one.
func session(t *testing.T, f Fixture, account gateway.Account, messages [][]byte, remove int) error {
	d, err := f.Adapter.Open(t.Context(), account)
	if err != nil {
		return err
	}
	defer d.Close()
	if d.Len() != len(messages) {
		return fmt.Errorf("%d messages, want %d", d.Len(), len(messages))
	}
	for i := range messages {
		r, err := d.Retrieve(t.Context(), i, -1)
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		var raw bytes.Buffer
		_, err = raw.ReadFrom(r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("reading message %d: %w", i, err)
		}
		if !bytes.Equal(sent(t, raw.Bytes()), messages[i]) {
			return fmt.Errorf("message %d is %s", i, excerpt(raw.Bytes()))
		}
	}
	return d.Delete(t.Context(), []int{remove}, func(int) {})
}
