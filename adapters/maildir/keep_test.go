package maildir

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/state/cache"
)

// restarted returns an adapter as after a restart of the gateway.
func restarted(t *testing.T, path, dir string) *Adapter {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	kept, err := cache.Open(dir, cache.DefaultSize, log)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Path: path}, new(gateway.Locks), kept, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); kept.Close() })
	return a
}

// What was listed is known after a restart, whether the folder has changed or
// not.
func TestRestart(t *testing.T) {
	_, path := oneMaildir(t)
	dir := t.TempDir()
	write(t, path, "new/1.m", "a\nb\n")
	write(t, path, "cur/2.m:2,S", "c\n")
	settle(t, path, "new/1.m", "cur/2.m:2,S")
	a := restarted(t, path, dir)
	wantSizes(t, a, "[6 3]")
	wantReads(t, a, 2, 1)
	a.Close()

	a = restarted(t, path, dir)
	wantSizes(t, a, "[6 3]")
	wantReads(t, a, 0, 1) // what was recalled is none that was made
	a.Close()

	write(t, path, "new/3.m", "new\n")
	settle(t, path, "new/3.m")
	a = restarted(t, path, dir)
	wantSizes(t, a, "[6 3 5]")
	if files, _ := a.reads(); files != 1 {
		t.Errorf("%d files were counted, want 1", files)
	}
	a.Close()

	// With other devices, as after a restart of the machine, the files are
	// examined, and not counted.
	a = restarted(t, path, dir)
	data, ok := a.kept.Get(keepKey(path))
	if !ok {
		t.Fatal("nothing was kept")
	}
	l, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.version {
		l.version[i].dev++
	}
	a.kept.Put(keepKey(path), l.encode(nil))
	if err := os.WriteFile(path+"/new/3.m", []byte("longer\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantSizes(t, a, "[6 3 8]")
	if files, _ := a.reads(); files != 1 {
		t.Errorf("%d files were counted, want that which was changed", files)
	}
}

// A change that RETR has found out is not forgotten by a restart.
func TestRestartAfterRewrite(t *testing.T) {
	_, path := oneMaildir(t)
	dir := t.TempDir()
	write(t, path, "cur/1.m", "a\nb\n")
	settle(t, path, "cur/1.m")
	a := restarted(t, path, dir)
	wantSizes(t, a, "[6]")
	if err := os.WriteFile(path+"/cur/1.m", []byte("longer\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.background.Wait()
	d := open(t, a, ann)
	if _, err := read(t, d, 0); err == nil {
		t.Error("the file was changed, and is read")
	}
	closeMaildrop(t, d)
	a.Close()
	wantSizes(t, restarted(t, path, dir), "[8]")
}

// A folder that changes all the time is not written each time.
func TestKeepRate(t *testing.T) {
	_, path := oneMaildir(t)
	a := restarted(t, path, t.TempDir())
	large := make([]message, 100_000)
	for i := range large {
		large[i] = newMessage(inCur, fmt.Sprintf("%d.m", i))
	}
	first := listingOf(large)
	a.keep(path, first, nil)
	if first.kept.IsZero() {
		t.Error("the first is not kept")
	}
	second := listingOf(large[1:])
	a.keep(path, second, first)
	if second.kept != first.kept {
		t.Error("the second is kept at once")
	}
	a.listings.put(path, second)
	a.Close()
	if data, ok := a.kept.Get(keepKey(path)); !ok || !bytes.Equal(data, second.encode(nil)) {
		t.Error("the second is not kept in the end")
	}
	second.kept = time.Now().Add(-time.Hour)
	third := listingOf(large)
	a.keep(path, third, second)
	if time.Since(third.kept) > time.Minute {
		t.Error("the third is not kept after an hour")
	}
}

// listingOf has messages and no version.
func listingOf(messages []message) *listing { return &listing{packed: pack(messages)} }

func someMessages() []message {
	var messages []message
	for i, name := range []string{"0", "1700000000.M5.host:2,S", "1700000001.x", "1700000001.x:2,"} {
		m := newMessage(subdir(i%2), name)
		m.file = identity{inode: 1<<50 + uint64(i), size: int64(i) << 30, modified: int64(i) - 1}
		m.octets, m.state = m.file.size+int64(i)-0, readable
		messages = append(messages, m)
	}
	messages[2].shared, messages[3].shared, messages[3].duplicate = true, true, true
	return messages
}

func someListing(messages []message) *listing {
	l := listingOf(messages)
	l.stands = true
	for i := range l.version {
		v := &l.version[i]
		v.dev, v.inode, v.modified, v.changed = 1<<40, uint64(i)+7, 1_700_000_000_000_000_000, -5
	}
	return l
}

func TestEncodeListing(t *testing.T) {
	l := someListing(someMessages())
	data := l.encode(nil)
	got, err := decode(data)
	if err != nil || !reflect.DeepEqual(got, l) || !reflect.DeepEqual(got.unpack(), someMessages()) {
		t.Errorf("decoded %+v, %v; want %+v", got, err, l)
	}
	for n := range data {
		if _, err := decode(data[:n:n]); err == nil {
			t.Errorf("the first %d octets pass for a listing", n)
		}
	}
	if _, err := decode(append(bytes.Clone(data), 0)); err == nil {
		t.Error("an octet too many passes")
	}
	for _, wrong := range []func([]message){
		func(m []message) { m[0], m[1] = m[1], m[0] },
		func(m []message) { m[1] = m[0] },
		func(m []message) { m[1].octets = -1 },
		func(m []message) { m[1].name, m[1].baseLen = "", 0 },
	} {
		messages := someMessages()
		wrong(messages)
		if got, err := decode(someListing(messages).encode(nil)); err == nil {
			t.Errorf("decoded %+v", got)
		}
	}
}

// A listing that was found to be wrong does not come back by the write that was
// under way.
func TestForgottenWhileWritten(t *testing.T) {
	const path = "/somewhere"
	a := restarted(t, path, t.TempDir())
	l := listing{packed: pack(manyMessages(10_000))}
	for range 20 {
		made := l
		a.listings.put(path, &made)
		a.keep(path, &made, nil)
		a.forget(path)
		a.background.Wait()
		if a.recall(path) != nil {
			t.Fatal("it came back")
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(someListing(someMessages()).encode(nil))
	f.Add((&listing{}).encode(nil))
	f.Add(someListing(manyMessages(100)).encode(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := decode(data)
		if err != nil {
			return
		}
		messages := l.unpack()
		for i := range messages {
			m := &messages[i]
			if m.name == "" || m.octets < 0 || m.base() != baseName(m.name) || l.size(i) != m.octets {
				t.Errorf("message %+v", m)
			}
		}
		again := listingOf(messages)
		again.stands, again.version = l.stands, l.version
		if back, err := decode(again.encode(nil)); err != nil || !reflect.DeepEqual(back.unpack(), messages) || back.version != l.version {
			t.Errorf("decoded again: %+v, %v; want %+v", back, err, messages)
		}
	})
}

func TestDamagedListing(t *testing.T) {
	_, path := oneMaildir(t)
	write(t, path, "cur/1.m", "a\nb\n")
	a := restarted(t, path, t.TempDir())
	a.kept.Put(keepKey(path), []byte("nonsense"))
	wantSizes(t, a, "[6]")
	a.kept.Put(keepKey(path), []byte(strings.Repeat("\xff", 1000)))
	a.listings.forget(path)
	wantSizes(t, a, "[6]")
}

// BenchmarkDecode reads a listing of 100,000 messages.
func BenchmarkDecode(b *testing.B) {
	l := listingOf(manyMessages(100_000))
	data := l.encode(nil)
	b.ReportMetric(float64(len(data))/float64(l.len()), "octets/message")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
