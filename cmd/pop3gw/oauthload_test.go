package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-sasl"

	"pop3gw/gateway/oauth/oauthtest"
)

// tokenIMAP is an IMAP server where a token of the provider's opens every mailbox,
// which has one message.
type tokenIMAP struct {
	provider *oauthtest.Server

	mu     sync.Mutex
	logins map[string]int // with each token
}

// tokenSession is a session that takes tokens alone.
type tokenSession struct {
	imapserver.Session
	server *tokenIMAP
	mem    *imapmemserver.Server
}

func (*tokenSession) AuthenticateMechanisms() []string { return []string{sasl.OAuthBearer} }

func (s *tokenSession) Authenticate(string) (sasl.Server, error) {
	return sasl.NewOAuthBearerServer(func(o sasl.OAuthBearerOptions) *sasl.OAuthBearerError {
		if s.server.provider.Owner(o.Token) == "" {
			return &sasl.OAuthBearerError{Status: "invalid_token", Schemes: "bearer"}
		}
		s.server.mu.Lock()
		s.server.logins[o.Token]++
		s.server.mu.Unlock()
		user := imapmemserver.NewUser(o.Username, "x")
		user.Create("INBOX", nil)
		message := []byte("Subject: for " + o.Username + "\r\n\r\ntext\r\n")
		user.Append("INBOX", literal{bytes.NewReader(message), int64(len(message))}, &imap.AppendOptions{})
		s.mem.AddUser(user)
		if err := s.Session.Login(o.Username, "x"); err != nil {
			return &sasl.OAuthBearerError{Status: "invalid_token", Schemes: "bearer"}
		}
		return nil
	}), nil
}

func (s *tokenIMAP) start(t *testing.T) (address string) {
	t.Helper()
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			mem := imapmemserver.New()
			return &tokenSession{mem.NewSession(), s, mem}, nil, nil
		},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}}, InsecureAuth: true,
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// When a token ends, and hundreds of sessions of its mailboxes begin at that moment,
// the provider sees one refresh, and each session reads its mail.
func TestSessionsAtTokenEnd(t *testing.T) {
	const sessions = 1000
	dir, provider := oauthFolder(t)
	upstream := &tokenIMAP{provider: provider, logins: make(map[string]int)}
	var users strings.Builder
	for i := range sessions {
		fmt.Fprintf(&users, "[[users]]\nname = \"box%[1]d\"\npassword = \"{PLAIN}x\"\nadapter = \"office\"\noauth = \"idp\"\noauth_user = \"jane\"\nupstream_user = \"box%[1]d@example.org\"\n", i)
	}
	fmt.Fprintf(&users, "[limits]\nmax_connections = %d\nmax_connections_per_address = %[1]d\n", 2*sessions)
	rewrite(t, dir, `address = "127.0.0.1:1"`, fmt.Sprintf("address = %q", upstream.start(t)), "", users.String(),
		"address = \"127.0.0.1:0\"", "address = \"127.0.0.1:0\"\ntls = \"none\"\ncleartext_login = \"always\"")
	c, err := loadConfig(dir + "/config.toml")
	must(t, err)
	kept, err := c.openStores(slog.New(slog.DiscardHandler))
	must(t, err)
	out := newSyncBuffer()
	s, err := c.build(kept, slog.New(slog.NewTextHandler(out, nil)))
	must(t, err)

	// A token of the day before yesterday.
	flow := s.accounts.current.providers["idp"].StartCode("http://127.0.0.1:1/", "")
	grant, err := flow.Finish(t.Context(), provider.Browse(t, flow.URL).Query())
	must(t, err)
	grant.Issued, grant.Expiry = grant.Issued.Add(-48*time.Hour), grant.Expiry.Add(-48*time.Hour)
	must(t, s.keeper.Put(t.Context(), "jane", grant))

	open, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, []net.Listener{open}, nil) }()
	gate := make(chan struct{})
	var ready, done sync.WaitGroup
	failed := make(chan error, sessions)
	for i := range sessions {
		ready.Add(1)
		done.Go(func() {
			if err := readAtOnce(open.Addr().String(), fmt.Sprint("box", i), func() { ready.Done(); <-gate }); err != nil {
				failed <- fmt.Errorf("session %d: %w", i, err)
			}
		})
	}
	ready.Wait()
	start := time.Now()
	close(gate)
	done.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	t.Logf("%d sessions in %v", sessions, time.Since(start))
	if n := provider.Count("refresh_token"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	upstream.mu.Lock()
	if len(upstream.logins) != 1 {
		t.Errorf("%d tokens at the mail server", len(upstream.logins))
	}
	upstream.mu.Unlock()
	stop()
	must(t, <-served)
}

// readAtOnce is a session that waits before its PASS, and reads its one message.
func readAtOnce(address, name string, wait func()) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		wait()
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	r := textproto.NewReader(bufio.NewReader(conn))
	do := func(command string) error {
		if command != "" {
			if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
				return err
			}
		}
		line, err := r.ReadLine()
		if err == nil && !strings.HasPrefix(line, "+OK") {
			err = fmt.Errorf("%s: %s", command, line)
		}
		return err
	}
	err = do("")
	if err == nil {
		err = do("USER " + name)
	}
	wait()
	for _, command := range []string{"PASS x", "RETR 1"} {
		if err == nil {
			err = do(command)
		}
	}
	if err != nil {
		return err
	}
	lines, err := r.ReadDotLines()
	if err != nil || len(lines) == 0 || lines[0] != "Subject: for "+name+"@example.org" {
		return fmt.Errorf("the message is %q, %v", lines, err)
	}
	return do("QUIT")
}
