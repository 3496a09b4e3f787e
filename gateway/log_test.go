package gateway_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// The log tells what happened, and no secret.
func TestLog(t *testing.T) {
	r := newRig(t, memory(sample), gateway.Limits{LoginFailureDelay: 1})
	c := r.connect()
	c.send("USER alice\r\nPASS wrong\r\nUSER alice\r\nPASS hunter2\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
	c.rest()
	r.server.Shutdown(t.Context())
	log := r.log.String()
	for _, want := range []string{
		`msg="login failed"`, `reply="[AUTH] wrong name or password"`,
		`msg=login`, `mechanism=USER`, `messages=1`, `remote=127.0.0.1`,
		`msg="message removed"`, `uid=uid0`,
		`msg="session ended"`, `user=alice`, `tls=none`, `ended=quit`, `retrieved=1`, `octets=20`, `removed=1`, `duration=`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, "hunter2") || strings.Contains(log, "body") {
		t.Errorf("the log holds a secret:\n%s", log)
	}
}

// Whoever only looks whether the server lives is at debug level; whoever comes
// without TLS has one line, as does a session.
func TestLogOfStrangers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		implicit bool
		sends    string
		want     []string
	}{
		{"health check", false, "", []string{"level=DEBUG", `ended="client disconnected"`}},
		{"health check with TLS", true, "", []string{"level=DEBUG", `ended="client disconnected"`}},
		{"scanner", true, "GET / HTTP/1.0\r\n\r\n", []string{"level=INFO", `ended="TLS failed"`, "does not look like a TLS handshake"}},
		{"client that vanishes", false, "CAPA\r\n", []string{"level=INFO", `ended="client disconnected"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := new(syncBuffer)
			server := &gateway.Server{Accounts: anyone{memory()},
				Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			o := tlsOptions(t)
			o.Implicit = tt.implicit
			l := maildroptest.NewListener()
			go server.Serve(l, o)
			nc, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(nc, tt.sends)
			nc.(interface{ CloseWrite() error }).CloseWrite()
			io.Copy(io.Discard, nc)
			nc.Close()
			server.Shutdown(context.Background())
			got := log.String()
			if strings.Count(got, "\n") != 1 {
				t.Errorf("want one line, got:\n%s", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("want %s, got:\n%s", want, got)
				}
			}
		})
	}
}
