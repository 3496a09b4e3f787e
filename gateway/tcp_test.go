package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// serveTCP serves store on a real socket and returns its address.
func serveTCP(t *testing.T, store gateway.Adapter, o gateway.ListenerOptions, limits gateway.Limits) (*gateway.Server, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limits.LoginFailureDelay = 1
	server := &gateway.Server{Accounts: anyone{store}, Limits: limits, Log: slog.New(slog.DiscardHandler)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, o) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		server.Shutdown(ctx)
		if err := <-served; err != gateway.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
	return server, l.Addr().String()
}

func tlsOptions(t testing.TB) gateway.ListenerOptions {
	return gateway.ListenerOptions{TLS: &tls.Config{Certificates: []tls.Certificate{maildroptest.Certificate(t)}}}
}

var tlsClient = &tls.Config{InsecureSkipVerify: true}

// The last reply arrives whatever the client has sent behind its last command:
// the connection ends, and is not reset.
func TestLastReply(t *testing.T) {
	const junk = 200_000 // more than the server reads at a time, less than it drains
	for _, implicit := range []bool{false, true} {
		for _, tt := range []struct{ name, lines, last string }{
			{"quit", "QUIT\r\n", "+OK bye\r\n"},
			{"quit with mail", "USER alice\r\nPASS x\r\nDELE 1\r\nQUIT\r\n", "+OK 1 messages removed, bye\r\n"},
			{"errors", "A\r\nB\r\nC\r\n", "-ERR unknown command; too many errors, closing\r\n"},
			{"failures", strings.Repeat("USER alice\r\nPASS wrong\r\n", 2), "-ERR [AUTH] wrong name or password; too many failures, closing\r\n"},
		} {
			name := tt.name
			if implicit {
				name += " with TLS"
			}
			t.Run(name, func(t *testing.T) {
				o := tlsOptions(t)
				o.Implicit = implicit
				_, addr := serveTCP(t, memory(sample), o, gateway.Limits{MaxErrors: 3, MaxLoginFailures: 2})
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				if implicit {
					nc = tls.Client(nc, tlsClient)
				}
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := io.WriteString(nc, tt.lines+strings.Repeat("x", junk)); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(nc)
				if err != nil || !strings.HasSuffix(string(got), tt.last) {
					t.Errorf("got %q, %v; want the end %q", got, err, tt.last)
				}
			})
		}
	}
}

// A client that comes again resumes its TLS session, which spares both sides the
// costly part of the handshake.
func TestResumption(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		o := tlsOptions(t)
		o.Implicit = implicit
		_, addr := serveTCP(t, memory(sample), o, gateway.Limits{})
		config := tlsClient.Clone()
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config.MaxVersion = version
			for again := range 3 {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				if !implicit {
					io.WriteString(nc, "STLS\r\n")
					in := bufio.NewReader(nc)
					for range 2 {
						if _, err := in.ReadString('\n'); err != nil {
							t.Fatal(err)
						}
					}
				}
				tc := tls.Client(nc, config)
				io.WriteString(tc, "QUIT\r\n")
				if _, err := io.ReadAll(tc); err != nil { // reads the ticket too
					t.Fatal(err)
				}
				if resumed := tc.ConnectionState().DidResume; resumed != (again > 0) {
					t.Errorf("implicit %v, %s, connection %d: resumed %v", implicit, tls.VersionName(version), again+1, resumed)
				}
			}
		}
	}
}

// The records of one reply leave in one write.
func TestRecordsLeaveTogether(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counting := &writeCounter{Listener: l}
	server := &gateway.Server{Accounts: anyone{memory(strings.Repeat("0123456789\r\n", 5000))}, Log: slog.New(slog.DiscardHandler)}
	o := tlsOptions(t)
	o.Implicit = true
	go server.Serve(counting, o)
	defer server.Shutdown(t.Context())
	nc, err := tls.Dial("tcp", l.Addr().String(), tlsClient)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(nc)
	var writes [3]int64
	for i, command := range []string{"USER alice\r\nPASS x\r\nNOOP\r\n", "RETR 1\r\n", "UIDL\r\n"} {
		io.WriteString(nc, command)
		for line := ""; !strings.HasPrefix(line, "+OK nothing") && line != ".\r\n"; {
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		writes[i] = counting.writes.Load()
	}
	if writes[1]-writes[0] != 1 || writes[2]-writes[1] != 1 {
		t.Errorf("RETR and UIDL bring %d writes to %d and %d", writes[0], writes[1], writes[2])
	}
	io.WriteString(nc, "QUIT\r\n")
	if rest, err := io.ReadAll(in); string(rest) != "+OK 0 messages removed, bye\r\n" || err != nil { // with TLS's own end
		t.Errorf("the end is %q, %v", rest, err)
	}
}

// writeCounter counts the writes of all its connections.
type writeCounter struct {
	net.Listener
	writes atomic.Int64
}

func (l *writeCounter) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return countedConn{nc, &l.writes}, err
}

type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A client that neither reads nor goes away does not keep others from the
// server, nor Shutdown from its end.
func TestShutdownWithStuckClient(t *testing.T) {
	big := strings.Repeat(strings.Repeat("x", 1000)+"\r\n", 20_000)
	for _, implicit := range []bool{false, true} {
		o := tlsOptions(t)
		o.Implicit = implicit
		server, addr := serveTCP(t, memory(big), o, gateway.Limits{})
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		if implicit {
			nc = tls.Client(nc, tlsClient)
		}
		in := bufio.NewReader(nc)
		io.WriteString(nc, "USER alice\r\nPASS x\r\nRETR 1\r\nQUIT\r\n")
		for range 4 { // the greeting to the first line of the message
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := server.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	}
}

// Clients that begin TLS, log in, read and vanish while the server ends: each
// is done with, and so is Serve.
func TestShutdownUnderLoad(t *testing.T) {
	store := memory()
	for i := range 8 {
		store.Add(fmt.Sprint("user", i), maildroptest.Message{UID: "1", Raw: []byte(sample)})
	}
	o := tlsOptions(t)
	server, addr := serveTCP(t, store, o, gateway.Limits{})
	var wg sync.WaitGroup
	served := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			for n := 0; sessionOverSTLS(addr, fmt.Sprint("user", i)) == nil; n++ {
				if n == 3 {
					served <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-served
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := server.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
	}
	both.Wait()
	wg.Wait()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(l, o); err != gateway.ErrServerClosed {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// sessionOverSTLS reads one message, and returns an error when the server does
// not serve it whole.
func sessionOverSTLS(addr, user string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(nc)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	io.WriteString(nc, "STLS\r\n")
	if line, err := in.ReadString('\n'); err != nil || line != "+OK begin TLS\r\n" {
		return fmt.Errorf("STLS: %q, %v", line, err)
	}
	tc := tls.Client(nc, tlsClient)
	io.WriteString(tc, "USER "+user+"\r\nPASS x\r\nRETR 1\r\n")
	in.Reset(tc)
	for {
		switch line, err := in.ReadString('\n'); {
		case err != nil:
			return err
		case line == ".\r\n", strings.HasPrefix(line, "-ERR [IN-USE]"): // as the last one vanished just now
			return nil
		case strings.HasPrefix(line, "-ERR [SYS/TEMP]"):
			return errors.New(line)
		}
	}
}
