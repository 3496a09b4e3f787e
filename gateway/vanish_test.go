package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// slowAdapter takes an hour to open a maildrop, or until its context ends.
type slowAdapter struct {
	gateway.Adapter
	took  time.Duration
	gave  time.Duration // after which it gave up
	began time.Time
}

func (a *slowAdapter) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	a.began = time.Now()
	select {
	case <-time.After(a.took):
	case <-ctx.Done():
		a.gave = time.Since(a.began)
		return nil, gateway.Unavailable("interrupted", ctx.Err())
	}
	return a.Adapter.Open(ctx, account)
}

type oneAccount struct{ gateway.Account }

func (a oneAccount) Login(context.Context, gateway.Credentials) (gateway.Account, error) {
	return a.Account, nil
}

// A client that goes away while its maildrop is listed is noticed at once, and the
// work is given up. What it has sent ahead is not lost.
func TestClientGoesDuringLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		send    string
		leave   string // "close", "half" or "stay"
		after   time.Duration
		took    time.Duration
		gave    time.Duration // 0 is never
		replies string        // behind that to USER
		ended   string
	}{
		"goes":               {"PASS x\r\n", "close", time.Second, time.Minute, time.Second, "", "client disconnected during the login"},
		"goes at once":       {"PASS x\r\n", "close", 0, time.Minute, 250 * time.Millisecond, "", "client disconnected during the login"},
		"goes amid a line":   {"PASS x\r\nQU", "close", time.Second, time.Minute, 0, "+OK 1 messages (3 octets)\r\n", "client disconnected"},
		"fast login":         {"PASS x\r\n", "half", 0, 0, 0, "+OK 1 messages (3 octets)\r\n", "client disconnected"},
		"script":             {"PASS x\r\nSTAT\r\nQUIT\r\n", "half", time.Second, time.Minute, 0, "+OK 1 messages (3 octets)\r\n+OK 1 3\r\n+OK 0 messages removed, bye\r\n", "quit"},
		"sends on":           {"PASS x\r\nNOOP\r\nQUIT\r\n", "stay", time.Second, time.Minute, 0, "+OK 1 messages (3 octets)\r\n+OK nothing done\r\n+OK 0 messages removed, bye\r\n", "quit"},
		"sends a great deal": {"PASS x\r\n" + strings.Repeat("NOOP\r\n", 2000) + "QUIT\r\n", "stay", time.Second, time.Minute, 0, "+OK 1 messages (3 octets)\r\n" + strings.Repeat("+OK nothing done\r\n", 2000) + "+OK 0 messages removed, bye\r\n", "quit"},
		"takes too long":     {"PASS x\r\n", "stay", time.Hour, time.Hour, 3 * time.Minute, "-ERR [SYS/TEMP] login took too long, try again later\r\n", "login timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := new(maildroptest.Memory)
				memory.Add("ann", maildroptest.Message{UID: "1", Raw: []byte("x\r\n")})
				adapter := &slowAdapter{Adapter: memory, took: tt.took}
				var log lockedBuffer
				l := maildroptest.NewListener()
				s := &gateway.Server{Accounts: oneAccount{gateway.Account{Name: "ann", Adapter: adapter}}, Log: slog.New(slog.NewTextHandler(&log, nil))}
				go s.Serve(l, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways})
				nc, err := l.Dial()
				if err != nil {
					t.Fatal(err)
				}
				in := bufio.NewReader(nc)
				in.ReadString('\n')
				io.WriteString(nc, "USER ann\r\n")
				in.ReadString('\n')
				// Behind the login, and in pieces.
				first, rest, _ := strings.Cut(tt.send, "\r\n")
				io.WriteString(nc, first+"\r\n")
				synctest.Wait()
				if tt.leave == "close" && tt.after == 0 {
					nc.Close()
				} else if time.Sleep(tt.after / 2); rest != "" {
					go io.WriteString(nc, rest)
				}
				synctest.Wait()
				time.Sleep(tt.after - tt.after/2)
				switch tt.leave {
				case "close":
					if tt.replies == "" {
						nc.Close()
						break
					}
					fallthrough
				case "half":
					nc.(interface{ CloseWrite() error }).CloseWrite()
				}
				got, _ := io.ReadAll(in)
				if string(got) != tt.replies {
					t.Errorf("replies %.200q, want %.200q", got, tt.replies)
				}
				nc.Close()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if adapter.gave != tt.gave {
					t.Errorf("the adapter was told after %v, want %v", adapter.gave, tt.gave)
				}
				if !strings.Contains(log.String(), `ended="`+tt.ended+`"`) && !strings.Contains(log.String(), "ended="+tt.ended+" ") {
					t.Errorf("log is %s, want ended=%q", log.String(), tt.ended)
				}
				s.Shutdown(t.Context())
			})
		})
	}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
