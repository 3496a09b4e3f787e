package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// anyone lets everybody in, with any password but "wrong".
type anyone struct{ adapter gateway.Adapter }

func (a anyone) Login(_ context.Context, c gateway.Credentials) (gateway.Account, error) {
	if c.Password == "wrong" {
		return gateway.Account{}, gateway.Refused(nil)
	}
	return gateway.Account{Name: c.User, Adapter: a.adapter, AdapterName: "store"}, nil
}

// rig is a server over an adapter, in memory.
type rig struct {
	t        *testing.T
	server   *gateway.Server
	listener *maildroptest.Listener
	log      *syncBuffer
}

func newRig(t *testing.T, adapter gateway.Adapter, limits gateway.Limits) *rig {
	r := &rig{t: t, listener: maildroptest.NewListener(), log: new(syncBuffer)}
	r.server = &gateway.Server{Accounts: anyone{adapter}, Limits: limits,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	go r.server.Serve(r.listener, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.server.Shutdown(ctx)
	})
	return r
}

func (r *rig) connect() *client {
	r.t.Helper()
	nc, err := r.listener.Dial()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	c := &client{r.t, nc, bufio.NewReader(nc)}
	c.want("+OK localhost POP3 server ready")
	return c
}

// logIn connects and enters TRANSACTION as user.
func (r *rig) logIn(user string) *client {
	r.t.Helper()
	c := r.connect()
	c.send("USER " + user + "\r\nPASS x\r\n")
	c.want("+OK send PASS")
	if line := c.line(); !strings.HasPrefix(line, "+OK ") {
		r.t.Fatalf("login: %s", line)
	}
	return c
}

type client struct {
	t  *testing.T
	nc net.Conn
	in *bufio.Reader
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) line() string {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(time.Hour))
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("got %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

func (c *client) want(line string) {
	c.t.Helper()
	if got := c.line(); got != line {
		c.t.Fatalf("got  %q\nwant %q", got, line)
	}
}

// rest is all that the server sends up to its end.
func (c *client) rest() string {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(time.Hour))
	text, err := io.ReadAll(c.in)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// syncBuffer is a log that several sessions write.
type syncBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{} // closed by the next Write; nil when nobody waits
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written != nil {
		close(s.written)
		s.written = nil
	}
	return s.b.Write(p)
}

// waitFor waits until something in the log fits pattern.
func waitFor(t *testing.T, log *syncBuffer, pattern string) {
	t.Helper()
	re, timeout := regexp.MustCompile(pattern), time.After(20*time.Second)
	for {
		log.mu.Lock()
		if log.written == nil {
			log.written = make(chan struct{})
		}
		text, written := log.b.String(), log.written
		log.mu.Unlock()
		if re.MatchString(text) {
			return
		}
		select {
		case <-written:
		case <-timeout:
			t.Fatalf("nothing fits %s in the log:\n%s", pattern, text)
		}
	}
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// memory has one maildrop, alice's, of the messages.
func memory(messages ...string) *maildroptest.Memory {
	m := new(maildroptest.Memory)
	m.Add("alice")
	for i, raw := range messages {
		m.Add("alice", maildroptest.Message{UID: fmt.Sprint("uid", i), Raw: []byte(raw)})
	}
	return m
}

const sample = "Subject: x\r\n\r\nbody\r\n"

// A message is complete or visibly broken: no final dot after an error.
func TestBrokenMessage(t *testing.T) {
	broken := errors.New("disk is broken")
	long := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 20_000)
	tests := []struct {
		name   string
		raw    string
		faults maildroptest.Faults
		reply  string // to RETR, followed by an answered NOOP; else the connection ends
	}{
		{"before the first octet", sample, maildroptest.Faults{Body: map[int]maildroptest.BodyFault{0: {Err: broken}}}, "-ERR [SYS/TEMP] internal error, try again later"},
		{"no message", sample, maildroptest.Faults{RetrieveErr: map[int]error{0: gateway.Gone(nil)}}, "-ERR message was removed by another program"},
		{"in the middle", sample, maildroptest.Faults{Body: map[int]maildroptest.BodyFault{0: {After: 8, Err: broken}}}, ""},
		{"in the middle of much", long, maildroptest.Faults{Body: map[int]maildroptest.BodyFault{0: {After: 100_000, Err: broken}}}, ""},
		{"at the end", sample, maildroptest.Faults{Body: map[int]maildroptest.BodyFault{0: {After: int64(len(sample)), Err: broken}}}, ""},
		{"at Close", sample, maildroptest.Faults{Body: map[int]maildroptest.BodyFault{0: {After: 1 << 20, CloseErr: broken}}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := memory(tt.raw)
			tt.faults.Adapter = store
			r := newRig(t, &tt.faults, gateway.Limits{})
			c := r.logIn("alice")
			c.send("DELE 1\r\nRSET\r\nRETR 1\r\nNOOP\r\n")
			c.line()
			c.line()
			if tt.reply != "" {
				c.want(tt.reply)
				c.want("+OK nothing done")
				return
			}
			got := c.rest()
			if strings.HasSuffix(got, "\r\n.\r\n") || strings.Contains(got, "nothing done") {
				t.Errorf("a broken message looks complete: %q", got[max(0, len(got)-40):])
			}
			if len(store.Messages("alice")) != 1 {
				t.Error("the message is gone")
			}
			// The maildrop is free again.
			r.logIn("alice")
		})
	}
}

func TestUpdateFails(t *testing.T) {
	store := memory(sample, sample+"2", sample+"3")
	faults := &maildroptest.Faults{Adapter: store, DeleteErr: map[int]error{1: gateway.Unavailable("the store is read-only", errors.New("EROFS"))}}
	r := newRig(t, faults, gateway.Limits{})
	c := r.logIn("alice")
	c.send("DELE 1\r\nDELE 2\r\nDELE 3\r\nQUIT\r\n")
	for range 3 {
		c.line()
	}
	if got := c.rest(); !strings.HasPrefix(got, "-ERR [SYS/TEMP] 1 of 3 messages were not removed") {
		t.Errorf("QUIT got %q", got)
	}
	if left := store.Messages("alice"); len(left) != 1 || left[0].UID != "uid1" {
		t.Errorf("left: %v", left)
	}
	if n := strings.Count(r.log.String(), `msg="message removed"`); n != 2 {
		t.Errorf("%d messages in the log as removed, 2 were:\n%s", n, r.log)
	}
}

// An adapter that forgets a message, and does not say so, is not believed.
func TestUpdateClaims(t *testing.T) {
	store := memory(sample)
	r := newRig(t, silentDelete{store}, gateway.Limits{})
	c := r.logIn("alice")
	c.send("DELE 1\r\nQUIT\r\n")
	c.line()
	if got := c.rest(); !strings.HasPrefix(got, "-ERR [SYS/TEMP] 1 of 1 messages were not removed") {
		t.Errorf("QUIT got %q", got)
	}
}

type silentDelete struct{ gateway.Adapter }

type silentMaildrop struct{ gateway.Maildrop }

func (a silentDelete) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	m, err := a.Adapter.Open(ctx, account)
	return silentMaildrop{m}, err
}

func (silentMaildrop) Delete(context.Context, []int, func(int)) error { return nil }

// Once entered, UPDATE goes on although the client is gone.
func TestUpdateWithoutClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory(sample)
		r := newRig(t, &maildroptest.Faults{Adapter: store, DeleteDelay: time.Minute}, gateway.Limits{})
		c := r.logIn("alice")
		c.send("DELE 1\r\nQUIT\r\n")
		c.want("+OK message is marked as deleted")
		c.nc.Close()
		time.Sleep(2 * time.Minute)
		if n := len(store.Messages("alice")); n != 0 {
			t.Errorf("%d messages left", n)
		}
	})
}

func TestDeleteNotPermitted(t *testing.T) {
	store := memory(sample)
	faults := &maildroptest.Faults{Adapter: store, PermitErr: map[int]error{0: &gateway.Error{Code: gateway.CodeSysPerm, Text: "server cannot remove single messages"}}}
	c := newRig(t, faults, gateway.Limits{}).logIn("alice")
	c.send("DELE 1\r\nSTAT\r\nQUIT\r\n")
	c.want("-ERR [SYS/PERM] server cannot remove single messages")
	c.want("+OK 1 20")
	c.want("+OK 0 messages removed, bye")
}

func TestLoginErrors(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{gateway.Refused(errors.New("secret cause")), "-ERR [AUTH] wrong name or password"},
		{gateway.Unavailable("the mail server is down, try again later", errors.New("secret cause")), "-ERR [SYS/TEMP] the mail server is down, try again later"},
		{gateway.Unusable("ask the operator", errors.New("secret cause")), "-ERR [SYS/PERM] ask the operator"},
		{fmt.Errorf("listing: %w", errors.New("secret cause")), "-ERR [SYS/TEMP] internal error, try again later"},
		{&gateway.Error{Text: "two\r\nlines \xff " + strings.Repeat("x", 600)}, ""},
	}
	for _, tt := range tests {
		r := newRig(t, &maildroptest.Faults{Adapter: memory(), OpenErr: tt.err}, gateway.Limits{LoginFailureDelay: 1})
		c := r.connect()
		c.send("USER alice\r\nPASS x\r\nSTAT\r\n")
		c.want("+OK send PASS")
		got := c.line()
		if len(got) > 510 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Contains(got, "secret") {
			t.Errorf("%v: got %q", tt.err, got)
		}
		if tt.want != "" && got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		c.want("-ERR log in first")
	}
}

// A store that hangs does not hold a login for longer than the limit.
func TestLoginDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &maildroptest.Faults{Adapter: memory(), OpenDelay: time.Hour}, gateway.Limits{})
		c := r.connect()
		start := time.Now()
		c.send("USER alice\r\nPASS x\r\n")
		c.want("+OK send PASS")
		c.want("-ERR [SYS/TEMP] login took too long, try again later")
		if took := time.Since(start); took != 3*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// The answer to a refused login is held back, longer each time.
func TestLoginFailureDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRig(t, memory(), gateway.Limits{}).connect()
		for _, delay := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
			start := time.Now()
			c.send("USER alice\r\nPASS wrong\r\n")
			c.want("+OK send PASS")
			c.want("-ERR [AUTH] wrong name or password")
			if took := time.Since(start); took != delay {
				t.Errorf("it took %v, want %v", took, delay)
			}
		}
	})
}

// A client that takes nothing ends; one that takes a little now and then goes on.
func TestSlowClient(t *testing.T) {
	big := strings.Repeat("0123456789abcdef\r\n", 200_000)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory(big), gateway.Limits{})
		c := r.logIn("alice")
		c.send("RETR 1\r\n")
		for range 10 { // 64 KB in 4 minutes
			time.Sleep(4 * time.Minute)
			if _, err := io.CopyN(io.Discard, c.in, 64<<10); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(6 * time.Minute)
		r.logIn("alice") // the session is over and its lock gone
	})
}

func TestMaxConnections(t *testing.T) {
	for _, limits := range []gateway.Limits{{MaxConnections: 2}, {MaxConnectionsPerAddress: 2}} {
		r := newRig(t, memory(), limits)
		r.connect()
		second := r.connect()
		nc, err := r.listener.Dial()
		if err != nil {
			t.Fatal(err)
		}
		third := &client{t, nc, bufio.NewReader(nc)}
		if got := third.rest(); !strings.HasPrefix(got, "-ERR [SYS/TEMP] too many connections") {
			t.Errorf("got %q", got)
		}
		second.send("QUIT\r\n")
		second.rest()
		second.nc.Close()
		synced := false
		for range 1000 { // the place is free once the session's goroutine is done
			if nc, err := r.listener.Dial(); err == nil {
				line, _ := bufio.NewReader(nc).ReadString('\n')
				if synced = strings.HasPrefix(line, "+OK"); synced {
					break
				}
			}
		}
		if !synced {
			t.Error("the place of a client that left is not free")
		}
	}
}

// An overlong line costs no memory, and one error.
func TestEndlessLine(t *testing.T) {
	r := newRig(t, memory(), gateway.Limits{})
	c := r.connect()
	chunk := bytes.Repeat([]byte{'x'}, 1<<20)
	go func() {
		for range 10 {
			c.nc.Write(chunk)
		}
		io.WriteString(c.nc, "\r\nQUIT\r\n")
	}()
	c.want("-ERR line is too long")
	c.want("+OK bye")
	c = r.connect()
	go func() {
		for range 70 {
			c.nc.Write(chunk)
		}
	}()
	c.want("-ERR line has no end, closing")
}

// A client that pipelines gets its replies in few writes.
func TestPipelining(t *testing.T) {
	c := newRig(t, memory(sample), gateway.Limits{}).logIn("alice")
	const n = 2000
	go io.WriteString(c.nc, strings.Repeat("NOOP\r\nRETR 1\r\n", n)+"QUIT\r\n")
	got := c.rest()
	want := strings.Repeat("+OK nothing done\r\n+OK 20 octets\r\n"+sample+".\r\n", n) + "+OK 0 messages removed, bye\r\n"
	if got != want {
		t.Errorf("got %d octets, want %d", len(got), len(want))
	}
}

// Whatever is sent in whichever state, the server answers in whole lines of
// bounded length and ends by itself.
func FuzzDialogue(f *testing.F) {
	f.Add(0, []byte("USER a\r\nPASS b\r\n"))
	f.Add(1, []byte("LIST\nRETR 1\nTOP 1 0\nDELE 1\nRSET\nUIDL\n"))
	f.Add(0, []byte("AUTH PLAIN\r\n*\r\nAUTH LOGIN =\r\n\r\n"))
	f.Add(1, []byte("LIST 18446744073709551617\r\n\x00\xff\r\n"))
	f.Fuzz(func(t *testing.T, state int, input []byte) {
		store := memory(sample)
		server := &gateway.Server{Accounts: anyone{store}, Log: slog.New(slog.DiscardHandler), Limits: gateway.Limits{LoginFailureDelay: 1}}
		l := maildroptest.NewListener()
		go server.Serve(l, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways})
		nc, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if state%2 == 1 {
				io.WriteString(nc, "USER alice\r\nPASS x\r\n")
			}
			nc.Write(input)
			nc.(interface{ CloseWrite() error }).CloseWrite()
		}()
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		out, err := io.ReadAll(nc)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.SplitAfterSeq(out, []byte("\n")) {
			if len(line) > 512 || len(line) > 0 && !bytes.HasSuffix(line, []byte("\r\n")) {
				t.Fatalf("got line %q", line)
			}
		}
		server.Shutdown(context.Background())
		quit := bytes.Contains(bytes.ToUpper(input), []byte("QUIT"))
		if len(store.Messages("alice")) != 1 && !quit {
			t.Fatal("a message is gone without QUIT")
		}
	})
}

// A client that does not get the message it pipelined QUIT behind keeps it.
func TestQuitBehindLostMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory(sample)
		faults := &maildroptest.Faults{Adapter: store, RetrieveDelay: time.Second}
		c := newRig(t, faults, gateway.Limits{}).logIn("alice")
		c.send("RETR 1\r\nDELE 1\r\nQUIT\r\n")
		synctest.Wait()
		c.nc.Close()
		time.Sleep(time.Minute)
		if n := len(store.Messages("alice")); n != 1 {
			t.Errorf("%d messages left", n)
		}
	})
}

// A client that goes away during its login does not keep the maildrop.
func TestVanishDuringLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &maildroptest.Faults{Adapter: memory(sample), OpenDelay: time.Minute}, gateway.Limits{})
		c := r.connect()
		c.send("USER alice\r\nPASS x\r\n")
		synctest.Wait()
		c.nc.Close()
		time.Sleep(time.Minute)
		r.logIn("alice")
	})
}
