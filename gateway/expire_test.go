package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// retrievals are gateway.Retrievals in memory.
type retrievals struct {
	mu  sync.Mutex
	at  map[string]time.Time // by maildrop, a NUL, and message
	err error
}

func (r *retrievals) Mark(_ context.Context, maildrop string, at time.Time, messages ...[]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		if _, ok := r.at[maildrop+"\x00"+string(m)]; !ok {
			r.at[maildrop+"\x00"+string(m)] = at
		}
	}
	return r.err
}

func (r *retrievals) Before(_ context.Context, maildrop string, t time.Time, most int) (messages [][]byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, at := range r.at {
		if m, ok := strings.CutPrefix(name, maildrop+"\x00"); ok && at.Before(t) && len(messages) < most {
			messages = append(messages, []byte(m))
		}
	}
	return messages, r.err
}

func (r *retrievals) Forget(_ context.Context, maildrop string, messages ...[]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		delete(r.at, maildrop+"\x00"+string(m))
	}
	return r.err
}

// expiring lets everybody in, whose messages expire.
type expiring struct {
	anyone
	policy gateway.Policy
	least  gateway.Age
	varies bool
}

func (e expiring) Login(ctx context.Context, c gateway.Credentials) (gateway.Account, error) {
	a, err := e.anyone.Login(ctx, c)
	a.Policy = e.policy
	return a, err
}

func (e expiring) Expiry() (gateway.Age, bool) { return e.least, e.varies }

const month = gateway.Age(30 * 24 * time.Hour)

// expireRig is a server whose messages expire after a month, with three messages.
func expireRig(t *testing.T, adapter func(*maildroptest.Memory) gateway.Adapter) (*rig, *maildroptest.Memory, *retrievals) {
	m := new(maildroptest.Memory)
	for i := range 3 {
		m.Add("alice", maildroptest.Message{UID: fmt.Sprint("uid", i), Raw: []byte(sample)})
	}
	var a gateway.Adapter = m
	if adapter != nil {
		a = adapter(m)
	}
	r := newRig(t, a, gateway.Limits{})
	r.server.Accounts = expiring{anyone: anyone{a}, policy: gateway.Policy{ExpireAfter: month}, least: month}
	kept := &retrievals{at: make(map[string]time.Time)}
	r.server.Retrieved = kept
	return r, m, kept
}

// session sends the commands of one and returns what comes to the last.
func (r *rig) session(commands ...string) string {
	r.t.Helper()
	c := r.logIn("alice")
	for _, command := range commands {
		c.send(command + "\r\n")
	}
	if commands[len(commands)-1] == "QUIT" {
		all := strings.Split(strings.TrimSpace(c.rest()), "\r\n")
		return all[len(all)-1]
	}
	c.nc.Close()
	synctest.Wait()
	return ""
}

func uidsOf(m *maildroptest.Memory) string {
	var uids []string
	for _, msg := range m.Messages("alice") {
		uids = append(uids, msg.UID)
	}
	return strings.Join(uids, " ")
}

// TestExpireWhereTheHeaderIsEnded has a listener that adds the end of the header to a
// message without one, which is then longer than it is listed.
func TestExpireWhereTheHeaderIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m, _ := expireRig(t, nil)
		m.Add("alice", maildroptest.Message{UID: "endless", Raw: []byte("Subject: no end\r\n")})
		r.listener = maildroptest.NewListener()
		go r.server.Serve(r.listener, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways, EndHeader: true})
		r.session("RETR 4", "QUIT")
		time.Sleep(31 * 24 * time.Hour)
		if reply := r.session("QUIT"); reply != "+OK 0 messages removed, 1 expired, bye" || uidsOf(m) != "uid0 uid1 uid2" {
			t.Errorf("the reply is %q, left are %s", reply, uidsOf(m))
		}
	})
}

func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m, kept := expireRig(t, nil)
		want := func(reply, wantReply, uids string) {
			t.Helper()
			if reply != wantReply {
				t.Errorf("the reply is %q, want %q", reply, wantReply)
			}
			if got := uidsOf(m); got != uids {
				t.Errorf("left are %s, want %s", got, uids)
			}
		}
		// Neither what was not read whole, nor what was read without QUIT, counts.
		want(r.session("TOP 1 0", "QUIT"), "+OK 0 messages removed, bye", "uid0 uid1 uid2")
		want(r.session("RETR 2"), "", "uid0 uid1 uid2")
		time.Sleep(40 * 24 * time.Hour)
		want(r.session("RETR 1", "QUIT"), "+OK 0 messages removed, bye", "uid0 uid1 uid2")
		time.Sleep(20 * 24 * time.Hour)
		want(r.session("RETR 1", "RETR 3", "QUIT"), "+OK 0 messages removed, bye", "uid0 uid1 uid2") // the first time counts
		time.Sleep(11 * 24 * time.Hour)
		want(r.session("STAT"), "", "uid0 uid1 uid2")
		want(r.session("QUIT"), "+OK 0 messages removed, 1 expired, bye", "uid1 uid2")
		if log := r.log.String(); strings.Count(log, `msg="message removed"`) != 1 || !strings.Contains(log, "expired=720h0m0s") {
			t.Errorf("the log does not say what expired:\n%s", log)
		}
		time.Sleep(20 * 24 * time.Hour)
		want(r.session("DELE 1", "QUIT"), "+OK 1 messages removed, 1 expired, bye", "")
		if len(kept.at) != 0 {
			t.Errorf("still remembered are %v", kept.at)
		}
	})
}

// A message that is marked is none that expires, and one under an old unique-id is
// none that was read.
func TestExpireOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m, _ := expireRig(t, nil)
		r.session("RETR 1", "RETR 2", "QUIT")
		time.Sleep(31 * 24 * time.Hour)
		m.Remove("alice", "uid1")
		m.Add("alice", maildroptest.Message{UID: "uid1", Raw: []byte(sample + "longer\r\n")})
		if reply := r.session("DELE 1", "QUIT"); reply != "+OK 1 messages removed, bye" {
			t.Errorf("the reply is %q", reply)
		}
		if got := uidsOf(m); got != "uid2 uid1" {
			t.Errorf("left are %s", got)
		}
	})
}

func TestExpireFails(t *testing.T) {
	for name, fails := range map[string]func(*rig, *retrievals){
		"not known": func(_ *rig, kept *retrievals) { kept.err = errors.New("the disk is gone") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, m, kept := expireRig(t, nil)
				r.session("RETR 1", "QUIT")
				time.Sleep(31 * 24 * time.Hour)
				fails(r, kept)
				if reply := r.session("DELE 2", "QUIT"); reply != "+OK 1 messages removed, bye" {
					t.Errorf("the reply is %q", reply)
				}
				if got := uidsOf(m); got != "uid0 uid2" {
					t.Errorf("left are %s", got)
				}
				if !strings.Contains(r.log.String(), "the disk is gone") {
					t.Errorf("the log does not tell:\n%s", r.log)
				}
			})
		})
	}
	t.Run("not removed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, m, _ := expireRig(t, func(m *maildroptest.Memory) gateway.Adapter {
				return &maildroptest.Faults{Adapter: m, DeleteErr: map[int]error{0: errors.New("no right")}}
			})
			r.session("RETR 1", "QUIT")
			time.Sleep(31 * 24 * time.Hour)
			if reply := r.session("DELE 2", "QUIT"); reply != "+OK 1 messages removed, bye" {
				t.Errorf("the reply is %q", reply)
			}
			if got := uidsOf(m); got != "uid0 uid2" || !strings.Contains(r.log.String(), "no right") {
				t.Errorf("left are %s:\n%s", got, r.log)
			}
		})
	})
	t.Run("not permitted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, m, _ := expireRig(t, func(m *maildroptest.Memory) gateway.Adapter {
				return &maildroptest.Faults{Adapter: m, PermitErr: map[int]error{0: gateway.Unusable("never", errors.New("no UIDPLUS"))}}
			})
			r.session("RETR 1", "QUIT")
			time.Sleep(31 * 24 * time.Hour)
			if reply := r.session("QUIT"); reply != "+OK 0 messages removed, bye" {
				t.Errorf("the reply is %q", reply)
			}
			if got := uidsOf(m); got != "uid0 uid1 uid2" || !strings.Contains(r.log.String(), "no UIDPLUS") {
				t.Errorf("left are %s:\n%s", got, r.log)
			}
		})
	})
}

func TestCapaExpire(t *testing.T) {
	for _, tt := range []struct {
		own, least    gateway.Age
		varies        bool
		before, after string
	}{
		{own: month, least: month, before: "EXPIRE 30", after: "EXPIRE 30"},
		{own: month, least: month / 2, varies: true, before: "EXPIRE 15 USER", after: "EXPIRE 30"},
		{own: gateway.Never, least: month, varies: true, before: "EXPIRE 30 USER", after: "EXPIRE NEVER"},
		{own: month / 31, least: month / 31, before: "EXPIRE 0", after: "EXPIRE 0"},
		{own: gateway.Never},
	} {
		r := newRig(t, new(maildroptest.Memory), gateway.Limits{})
		m := new(maildroptest.Memory)
		m.Add("alice")
		r.server.Accounts = expiring{anyone: anyone{m}, policy: gateway.Policy{ExpireAfter: tt.own}, least: tt.least, varies: tt.varies}
		r.server.Retrieved = &retrievals{at: make(map[string]time.Time)}
		c := r.connect()
		c.send("CAPA\r\nUSER alice\r\nPASS x\r\nCAPA\r\nQUIT\r\n")
		var got []string
		for line := range strings.SplitSeq(c.rest(), "\r\n") {
			if strings.HasPrefix(line, "EXPIRE") {
				got = append(got, line)
			}
		}
		var want []string
		if tt.before != "" {
			want = []string{tt.before, tt.after}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: CAPA says %q", tt, got)
		}
	}
}

// Over many sessions, a message goes only if it was marked and QUIT came, or if it
// was retrieved in a session with QUIT a month before another one.
func TestExpireProperty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(5, 6))
		r, m, _ := expireRig(t, nil)
		read := make(map[string]time.Time)
		for k := 3; k < 200; k++ {
			uids := strings.Fields(uidsOf(m))
			if len(uids) < 8 {
				uid := fmt.Sprint("uid", k)
				m.Add("alice", maildroptest.Message{UID: uid, Raw: []byte(sample)})
				uids = append(uids, uid)
			}
			var commands, left []string
			quit := random.IntN(3) > 0
			for i, uid := range uids {
				marked := random.IntN(6) == 0
				at, was := read[uid]
				if random.IntN(3) == 0 {
					commands = append(commands, fmt.Sprint("RETR ", i+1))
					if quit && !was {
						read[uid] = time.Now()
					}
				}
				if marked {
					commands = append(commands, fmt.Sprint("DELE ", i+1))
				}
				if gone := quit && (marked || was && at.Add(time.Duration(month)).Before(time.Now())); !gone {
					left = append(left, uid)
				}
			}
			if commands = append(commands, "NOOP"); quit {
				commands = append(commands, "QUIT")
			}
			r.session(commands...)
			if got := strings.Fields(uidsOf(m)); !slices.Equal(got, left) {
				t.Fatalf("%q on %v left %v, want %v", commands, uids, got, left)
			}
			time.Sleep(time.Duration(random.IntN(20*24)) * time.Hour)
		}
	})
}
