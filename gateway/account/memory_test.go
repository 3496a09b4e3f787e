package account

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
)

func md5hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// countedSecret is a costly one that counts its checks and takes a second for
// each.
func countedSecret(stored, password string, checks *atomic.Int32) *secret {
	return &secret{kind: "counted", costly: true, stored: stored, match: func(p []byte) bool {
		checks.Add(1)
		time.Sleep(time.Second)
		return string(p) == password
	}}
}

func TestVerifiedPasswordIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		v := newVerifier(1, newMemory(5*time.Minute, 10))
		s := countedSecret("hash 1", "right", &checks)
		try := func(name string, s *secret, password string, want bool, wantChecks int32) {
			t.Helper()
			checks.Store(0)
			got, err := v.verify(t.Context(), name, s, []byte(password))
			if got != want || err != nil || checks.Load() != wantChecks {
				t.Errorf("verify %s, %s: %v, %v after %d checks; want %v after %d", name, password, got, err, checks.Load(), want, wantChecks)
			}
		}
		try("bob", s, "right", true, 1)
		try("bob", s, "right", true, 0)
		try("bob", s, "wrong", false, 1)
		try("bob", s, "wrong", false, 1)                                       // a wrong one is not
		try("eve", s, "right", true, 1)                                        // nor another's
		try("bob", countedSecret("hash 2", "new", &checks), "right", false, 1) // nor one of an older hash

		time.Sleep(5*time.Minute - 10*time.Second)
		try("bob", s, "right", true, 0)
		time.Sleep(10 * time.Second) // counted from the check, not from the use
		try("bob", s, "right", true, 1)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(time.Minute, 3)
	mark := func(i int) [32]byte { return m.mark(fmt.Sprint("user", i), "hash", []byte("pass")) }
	for i := range 3 {
		m.add(mark(i))
		m.add(mark(i))
	}
	m.knows(mark(0)) // makes 1 the one longest unused
	for i := 3; i < 100; i++ {
		m.add(mark(i))
		if !m.knows(mark(0)) {
			t.Fatalf("the one used last is forgotten after %d others", i-2)
		}
		if m.knows(mark(i-2)) && i > 4 {
			t.Fatalf("%d is still known after %d", i-2, i)
		}
		if len(m.entries) > 3 || m.recent.Len() != len(m.entries) {
			t.Fatalf("%d entries, %d in order", len(m.entries), m.recent.Len())
		}
	}
	none := newMemory(-1, 3)
	none.add(none.mark("bob", "hash", []byte("pass")))
	if len(none.entries) > 0 {
		t.Error("remembered although turned off")
	}
}

func TestMarksDiffer(t *testing.T) {
	m := newMemory(time.Minute, 3)
	if m.mark("ab", "c", []byte("d")) == m.mark("a", "bc", []byte("d")) || m.mark("a", "b", []byte("cd")) == m.mark("a", "bc", []byte("d")) {
		t.Error("a name may borrow from the hash or the password")
	}
	if m.mark("a", "b", []byte("c")) == newMemory(time.Minute, 3).mark("a", "b", []byte("c")) {
		t.Error("two memories have the same key")
	}
}

func TestCostlyChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots, logins = 3, 20
		var running, most atomic.Int32
		s := &secret{kind: "slow", costly: true, match: func([]byte) bool {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second)
			running.Add(-1)
			return false
		}}
		v := newVerifier(slots, newMemory(time.Minute, 10))
		start := time.Now()
		var wg sync.WaitGroup
		for i := range logins {
			wg.Go(func() {
				if i%2 == 0 { // stand-ins wait in the same line
					v.standIn(t.Context(), "nobody", []*secret{s}, []byte("x"))
				} else {
					v.verify(t.Context(), fmt.Sprint(i), s, []byte("x"))
				}
			})
		}
		wg.Wait()
		if most.Load() != slots {
			t.Errorf("%d checks at a time, want %d", most.Load(), slots)
		}
		if took, want := time.Since(start), 7*time.Second; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

func TestWaitingForACheckEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		s := countedSecret("hash", "right", &checks)
		v := newVerifier(1, newMemory(time.Minute, 10))
		leave, _ := v.queue.enter(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		ok, err := v.verify(ctx, "bob", s, []byte("right"))
		if ok || gateway.CodeOf(err) != gateway.CodeSysTemp {
			t.Errorf("verify: %v, %v; want [SYS/TEMP]", ok, err)
		}
		if err := v.standIn(ctx, "bob", []*secret{s}, []byte("right")); gateway.CodeOf(err) != gateway.CodeSysTemp {
			t.Errorf("standIn: %v; want [SYS/TEMP]", err)
		}
		if checks.Load() > 0 {
			t.Errorf("%d checks", checks.Load())
		}
		leave()
		if ok, err := v.verify(t.Context(), "bob", s, []byte("right")); !ok || err != nil {
			t.Errorf("afterwards: %v, %v", ok, err)
		}
		if v.queue.running > 0 {
			t.Error("a slot was not given back")
		}
	})
}

func TestUnfitPasswordsNeverMatch(t *testing.T) {
	v := newVerifier(1, newMemory(time.Minute, 10))
	anything := &secret{kind: "any", match: func([]byte) bool { return true }}
	for _, tt := range []struct {
		password string
		want     bool
	}{
		{"x", true},
		{strings.Repeat("x", maxPassword), true},
		{strings.Repeat("x", maxPassword+1), false},
		{"", false},
		{"x\x00", false},
	} {
		if got, err := v.verify(t.Context(), "bob", anything, []byte(tt.password)); got != tt.want || err != nil {
			t.Errorf("a password of %d octets: %v, %v", len(tt.password), got, err)
		}
	}
}

func TestStandInsRememberNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		v := newVerifier(1, newMemory(time.Minute, 10))
		kinds := []*secret{countedSecret("hash", "right", &checks)}
		for range 2 {
			v.standIn(t.Context(), "nobody", kinds, []byte("right"))
		}
		if checks.Load() != 2 || len(v.memory.entries) > 0 {
			t.Errorf("%d checks, %d remembered: a second try would tell the stand-in's password", checks.Load(), len(v.memory.entries))
		}
	})
}

func TestStandInsCoverEveryKind(t *testing.T) {
	v := newVerifier(1, newMemory(time.Minute, 10))
	var count [3]atomic.Int32
	var kinds []*secret
	for i := range count {
		s := &secret{kind: fmt.Sprint(i), match: func([]byte) bool { count[i].Add(1); return false }}
		kinds = kindsOf(kinds, s, s)
	}
	if len(kinds) != len(count) {
		t.Fatalf("%d kinds, want %d", len(kinds), len(count))
	}
	for i := range 300 {
		v.standIn(t.Context(), fmt.Sprint("name", i), kinds, []byte("x"))
	}
	for i := range count {
		if n := count[i].Load(); n < 50 {
			t.Errorf("kind %d stood in %d times of 300", i, n)
		}
	}
	before := [3]int32{count[0].Load(), count[1].Load(), count[2].Load()}
	for range 30 {
		v.standIn(t.Context(), "same", kinds, []byte("x"))
	}
	whole := 0
	for i := range count {
		if count[i].Load()-before[i] == 30 {
			whole++
		}
	}
	if whole != 1 {
		t.Error("one name changes its kind from try to try")
	}
}
