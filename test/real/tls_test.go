//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tlsClients fetch alice's mail over TLS and verify the certificate. Each
// returns the messages; implicit says which kind of TLS.
var tlsClients = []struct {
	name  string
	fetch func(t *testing.T, s session, implicit bool) (messages [][]byte)
}{
	{"fetchmail", func(t *testing.T, s session, implicit bool) [][]byte {
		option := `sslproto "TLS1.2+"` // STLS, and no login without it
		if implicit {
			option = `ssl sslproto "TLS1.2+"`
		}
		write(t, filepath.Join(s.home, "deliver"), fmt.Sprintf("#!/bin/sh\nexec cat >\"$(mktemp %s/XXXXXXXX)\"\n", s.inbox), 0o755)
		write(t, filepath.Join(s.home, "fetchmailrc"), fmt.Sprintf(`set invisible
poll localhost service %d protocol POP3 auth password
	user %q password %q is nobody here
	keep fetchall norewrite %s sslcertck sslcertfile %q mda "%s/deliver"
`, s.port, s.user, password, option, testCA().caFile, s.home), 0o600)
		out := s.execute(t, zero, "/usr/bin/fetchmail", "-v", "--nosyslog", "--fetchmailrc", filepath.Join(s.home, "fetchmailrc"))
		if !implicit && !strings.Contains(out, "STLS") {
			t.Errorf("fetchmail did not use STLS:\n%s", out)
		}
		return readFolder(t, s.inbox)
	}},
	{"curl", func(t *testing.T, s session, implicit bool) [][]byte {
		scheme := "pop3"
		if implicit {
			scheme = "pop3s"
		}
		var messages [][]byte
		for n := 1; n <= 3; n++ {
			out := filepath.Join(s.inbox, fmt.Sprint(n))
			s.execute(t, zero, "/usr/bin/curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", testCA().caFile,
				"--user", s.user+":"+password, "--output", out, fmt.Sprintf("%s://localhost:%d/%d", scheme, s.port, n))
			content, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, content)
		}
		return messages
	}},
	{"openssl", func(t *testing.T, s session, implicit bool) [][]byte {
		// "quiet" keeps openssl from taking R and Q at the start of a line for
		// itself; the pauses let each answer come before openssl is gone.
		starttls := "-starttls pop3"
		if implicit {
			starttls = ""
		}
		command := fmt.Sprintf(`(for line in "USER %s" "PASS %s" "RETR 1" "RETR 2" "RETR 3" QUIT; do sleep 0.2; printf '%%s\r\n' "$line"; done; sleep 1) |
			openssl s_client -quiet -verify_return_error -verify_hostname localhost -CAfile %s %s -connect 127.0.0.1:%d 2>openssl.log`,
			s.user, password, testCA().caFile, starttls, s.port)
		out := s.execute(t, func(int) bool { return true }, "/bin/sh", "-c", command)
		var messages [][]byte
		for _, reply := range strings.Split(out, " octets\r\n")[1:] {
			message, _, ok := strings.Cut(reply, "\r\n.\r\n")
			if !ok {
				t.Errorf("no final dot in %q", reply)
			}
			messages = append(messages, []byte(message+"\r\n"))
		}
		return messages
	}},
	{"mpop", func(t *testing.T, s session, implicit bool) [][]byte {
		makeMaildir(t, s.inbox)
		starttls := "on"
		if implicit {
			starttls = "off"
		}
		write(t, filepath.Join(s.home, "mpoprc"), fmt.Sprintf(`account default
host localhost
port %d
user %s
password %s
tls on
tls_starttls %s
tls_trust_file %s
uidls_file %s/uidls
delivery maildir %s
received_header off
keep on
`, s.port, s.user, password, starttls, testCA().caFile, s.home, s.inbox), 0o600)
		s.execute(t, zero, "/usr/bin/mpop", "--file", filepath.Join(s.home, "mpoprc"))
		return readFolder(t, filepath.Join(s.inbox, "new"))
	}},
}

// TestTLS fetches over STLS and implicit TLS, from a Maildir and from Dovecot
// that is reached by TLS in its turn.
func TestTLS(t *testing.T) {
	maildirs := newMaildirs(t)
	d := startDovecot(t)
	ca := fmt.Sprintf("ca_file = %q\n", testCA().caFile)
	for _, upstream := range []struct {
		name string
		store
		adapter string
	}{
		{"maildir", maildirs, maildirs.adapter()},
		{"dovecot implicit", d, imapAdapter(d.tlsPort, "tls = \"implicit\"\n"+ca)},
		{"dovecot starttls", d, imapAdapter(d.port, "tls = \"starttls\"\n"+ca)},
	} {
		t.Run(upstream.name, func(t *testing.T) {
			g := startGateway(t, configured{upstream.store, upstream.adapter}, "")
			messages := letters(3)
			if len(upstream.stored(t, "alice")) == 0 {
				upstream.deliver(t, "alice", messages...)
			}
			for _, c := range tlsClients {
				for mode, port := range map[string]int{"stls": g.port, "implicit": g.tlsPort} {
					t.Run(c.name+" "+mode, func(t *testing.T) {
						home := folder(t)
						inbox := filepath.Join(home, "inbox")
						if err := os.Mkdir(inbox, 0o755); err != nil {
							t.Fatal(err)
						}
						got := c.fetch(t, session{port: port, user: "alice", home: home, inbox: inbox}, mode == "implicit")
						compare(t, "messages", got, messages)
					})
				}
			}
			for line := range strings.Lines(g.log.String()) {
				if strings.Contains(line, "msg=login") && strings.Contains(line, "tls=none") {
					t.Errorf("a login went without TLS: %s", line)
				}
			}
		})
	}

	t.Run("unknown authority", func(t *testing.T) {
		g := startGateway(t, configured{d, imapAdapter(d.tlsPort, `tls = "implicit"`)}, "")
		c, err := dialPOP3(g.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		c.must(t, "USER alice")
		if text, err := c.command("PASS %s", password); err == nil {
			t.Errorf("login over an upstream whose certificate is not trusted: +OK %s", text)
		} else if strings.Contains(err.Error(), "[AUTH]") {
			t.Errorf("an upstream that is not trusted looks like a wrong password: %v", err)
		}
	})
}

// configured is a store with another gateway configuration.
type configured struct {
	store
	config string
}

func (c configured) adapter() string { return c.config }
