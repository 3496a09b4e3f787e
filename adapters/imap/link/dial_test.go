package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

const host = "imap.example.org"

// certificate is for host, and signed by itself.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: host},
		DNSNames:              []string{host},
		NotBefore:             time.Unix(0, 0), // before the clock of a synctest bubble
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
})

func serverTLS() *tls.Config {
	cert, _ := certificate()
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func clientTLS() *tls.Config {
	_, roots := certificate()
	return &tls.Config{RootCAs: roots}
}

// secure puts TLS over the server's side.
func (u *upstream) secure() bool {
	conn := tls.Server(u.nc, serverTLS())
	if conn.Handshake() != nil {
		return false
	}
	u.nc = conn
	u.br.Reset(conn)
	return true
}

func TestDial(t *testing.T) {
	var bye *ByeError
	var status *imap.Error
	var unknown x509.UnknownAuthorityError
	for _, tt := range []struct {
		name   string
		mode   TLSMode
		config *tls.Config
		script func(u *upstream)
		is     error // in the chain, by errors.Is
		as     any   // or by errors.As
		text   string
	}{
		{name: "clear", mode: NoTLS, script: func(u *upstream) { u.send("", greeting); u.send(u.expect("NOOP"), "% OK\n") }},
		{name: "implicit", mode: Implicit, config: clientTLS(), script: func(u *upstream) {
			u.secure()
			u.send("", greeting)
			u.send(u.expect("NOOP"), "% OK\n")
		}},
		{name: "STARTTLS", mode: StartTLS, config: clientTLS(), script: func(u *upstream) {
			u.send("", "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED FAKE] hello\n")
			u.send(u.expect("STARTTLS"), "* OK just a moment\n% OK go on\n")
			u.secure()
			for range 2 { // NOOP, and CAPABILITY by imapclient itself
				tag := u.expect("")
				u.send(tag, "* CAPABILITY IMAP4rev1\n% OK\n")
			}
		}},
		{name: "BYE", mode: NoTLS, as: &bye, text: "server closed the connection: [UNAVAILABLE] too many", script: func(u *upstream) { u.send("", "* BYE [unavailable] too many\n") }},
		{name: "closed", mode: NoTLS, is: io.ErrUnexpectedEOF, script: func(u *upstream) {}},
		{name: "POP3", mode: NoTLS, is: ErrProtocol, text: `"+OK ready"`, script: func(u *upstream) { u.send("", "+OK ready\n") }},
		{name: "NO", mode: NoTLS, is: ErrProtocol, script: func(u *upstream) { u.send("", "* NO\n") }},
		{name: "unknown authority", mode: Implicit, as: &unknown, script: func(u *upstream) { u.secure() }},
		{name: "wrong name", mode: Implicit, as: new(x509.HostnameError), config: func() *tls.Config { c := clientTLS(); c.ServerName = "other.example.org"; return c }(), script: func(u *upstream) { u.secure() }},
		{name: "not TLS", mode: Implicit, as: new(tls.RecordHeaderError), script: func(u *upstream) { u.send("", greeting); u.line() }},
		{name: "STARTTLS refused", mode: StartTLS, as: &status, text: "BAD what", script: func(u *upstream) { u.send("", greeting); u.send(u.expect("STARTTLS"), "% BAD what\n") }},
		{name: "STARTTLS injected", mode: StartTLS, config: clientTLS(), is: ErrInjected, script: func(u *upstream) {
			u.send("", greeting)
			u.send(u.expect("STARTTLS"), "% OK\n* CAPABILITY FAKE\n")
		}},
		{name: "STARTTLS after PREAUTH", mode: StartTLS, is: ErrPreAuth, script: func(u *upstream) { u.send("", "* PREAUTH welcome\n") }},
		{name: "endless greeting", mode: NoTLS, is: ErrTooLong, script: func(u *upstream) { u.send("", "* OK "+strings.Repeat("x", 1<<20)) }},
		{name: "endless chatter before TLS", mode: StartTLS, is: io.ErrUnexpectedEOF, script: func(u *upstream) { u.send("", greeting+lines("* OK %d\n", 1000)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := tryPipe(t, Options{TLS: tt.mode, TLSConfig: tt.config}, tt.script)
			switch {
			case tt.is != nil:
				wantErr(t, "Dial", err, tt.is)
			case tt.as != nil:
				if !errors.As(err, tt.as) {
					t.Errorf("got error %v, want a %T", err, tt.as)
				}
			case err != nil:
				t.Fatal(err)
			default:
				inStep(t, c)
				c.Do(context.Background(), func(client *imapclient.Client) error {
					if client.Caps().Has("FAKE") {
						t.Error("a capability from before TLS is believed")
					}
					return nil
				})
				return
			}
			if err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q does not tell %q", err, tt.text)
			}
		})
	}
}

func TestDialRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, err = Dial(context.Background(), Options{Address: listener.Addr().String(), TLS: NoTLS})
	wantErr(t, "Dial", err, syscall.ECONNREFUSED)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrNoProgress)
	_, err = Dial(ctx, Options{Address: listener.Addr().String(), TLS: NoTLS})
	wantErr(t, "Dial", err, context.Canceled)
	wantErr(t, "Dial", err, io.ErrNoProgress)
}

func TestPreAuth(t *testing.T) {
	c := dialPipe(t, Limits{}, func(u *upstream) {
		u.send("", "* preauth [capability imap4rev1 Move] hi\n")
	})
	c.Do(context.Background(), func(client *imapclient.Client) error {
		if got := client.State(); got != imap.ConnStateAuthenticated {
			t.Errorf("state is %v", got)
		}
		if !client.Caps().Has(imap.CapMove) {
			t.Errorf("capabilities are %v", client.Caps())
		}
		return nil
	})
}

// Neither errors nor any level of the log repeat a password, or a piece of a
// message, that the server repeats.
func TestNothingPrivateIsTold(t *testing.T) {
	const private = "open Sesame"
	login := func(c *Conn) error {
		c.Conceal(private)
		return c.Do(context.Background(), func(client *imapclient.Client) error {
			return client.Login("joe", private).Wait()
		})
	}
	fetch := func(c *Conn) error {
		b, err := c.FetchBody(context.Background(), 5, Section{})
		if err == nil {
			_, err = io.ReadAll(b)
		}
		return err
	}
	for answer, run := range map[string]func(*Conn) error{
		"% NO you sent open sesame\n":                                    login,
		"% BAD [open Sesame] what?\n":                                    login,
		"* OK [ALERT] you sent open Sesame\n% NO [ALERT] open Sesame\n":  login,
		"* BYE you sent open Sesame\n":                                   login,
		"* BYE [open Sesame] bye\n":                                      login,
		"you sent open Sesame\n":                                         login,
		"% you sent open Sesame\n":                                       login,
		"* open Sesame\n% NO no\n":                                       login,
		"* 1 FETCH (UID 5 BODY[] {2}\nab) open Sesame\n% OK done\n":      fetch,
		"* 1 FETCH (UID 5 BODY[] {2}\nab)\n* open Sesame\nopen Sesame\n": fetch,
	} {
		var log bytes.Buffer
		c, err := tryPipe(t, Options{TLS: NoTLS, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, func(u *upstream) {
			u.send("", greeting)
			tag, _, _ := strings.Cut(u.line(), " ")
			u.send(tag, answer)
		})
		if err != nil {
			t.Fatal(err)
		}
		err = run(c)
		c.Close()
		if told := fmt.Sprint(err, &log); err == nil || strings.Contains(strings.ToLower(told), "sesame") {
			t.Errorf("after %q: %s", answer, told)
		}
	}
}

func TestRepeats(t *testing.T) {
	for _, tt := range []struct {
		text, secret string
		want         bool
	}{
		{"you sent temp", "Temp", true},
		{"Temporary failure, attempt, \"TEMP\"", "temp", true},
		{"Temporary failure, attempt", "temp", false},
		{"you sent(a.b)", ".b", true},
		{"you sent a.b", "a.", true},
		{"x=a-", "a-", true},
		{"anything", "", false},
		{"", "a", false},
	} {
		if got := repeats(tt.text, tt.secret); got != tt.want {
			t.Errorf("repeats(%q, %q) is %v", tt.text, tt.secret, got)
		}
	}
}

// No level of the log has what was sent.
func TestLogHasNoPassword(t *testing.T) {
	var log bytes.Buffer
	c, err := tryPipe(t, Options{TLS: NoTLS, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 100}))}, func(u *upstream) {
		u.send("", greeting)
		u.send(u.expect("LOGIN"), "* OK [alert] mind the gap\n* OK [ALERT] again\n* XYZZY 1\n% OK [CAPABILITY IMAP4rev1] in\n")
		u.line()
	})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Do(context.Background(), func(client *imapclient.Client) error {
		return client.Login("joe", "secret").Wait()
	})
	if err != nil {
		t.Error(err)
	}
	c.Close()
	for want, count := range map[string]int{"secret": 0, "LOGIN": 0, "mind the gap": 1, "again": 0, "XYZZY": 0, "response dropped": 1, "connection ended": 1} {
		if got := strings.Count(log.String(), want); got != count {
			t.Errorf("%q is in the log %d times, want %d:\n%s", want, got, count, &log)
		}
	}
}
