package gateway_test

import (
	"encoding/base64"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/xdg-go/scram"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
	"pop3gw/gateway/maildroptest"
)

// scramRig serves the users of one directory over a maildrop in memory.
func scramRig(t *testing.T, o gateway.ListenerOptions, users ...account.User) *rig {
	t.Helper()
	store := new(maildroptest.Memory)
	for i := range users {
		store.Add(users[i].Name, maildroptest.Message{UID: "1", Raw: []byte(sample)})
		users[i].Target = account.Target{Adapter: store}
	}
	directory, err := account.New(account.Config{Users: users})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, listener: maildroptest.NewListener(), log: new(syncBuffer)}
	r.server = &gateway.Server{Accounts: directory, Log: slog.New(slog.NewTextHandler(r.log, nil))}
	go r.server.Serve(r.listener, o)
	t.Cleanup(func() { r.server.Shutdown(t.Context()) })
	return r
}

// scram logs in and returns the last reply.
func (c *client) scram(name, password string) string {
	c.t.Helper()
	client, err := scram.SHA256.NewClient(name, password, "")
	if err != nil {
		c.t.Fatal(err)
	}
	talk := client.NewConversation()
	message, err := talk.Step("")
	line := "AUTH SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString([]byte(message))
	for {
		if err != nil {
			c.t.Fatal(err)
		}
		c.send(line + "\r\n")
		reply := c.line()
		challenge, ok := strings.CutPrefix(reply, "+ ")
		if !ok {
			if strings.HasPrefix(reply, "+OK") != talk.Valid() {
				c.t.Errorf("%q, though the server is proven: %v", reply, talk.Valid())
			}
			return reply
		}
		decoded, decodeErr := base64.StdEncoding.DecodeString(challenge)
		if decodeErr != nil {
			c.t.Fatal(decodeErr)
		}
		message, err = talk.Step(string(decoded))
		line = base64.StdEncoding.EncodeToString([]byte(message))
	}
}

// sasl is what CAPA and AUTH say of SASL; they say the same.
func (c *client) sasl() string {
	c.t.Helper()
	c.send("CAPA\r\nAUTH\r\n")
	capa, list := "", ""
	for line := c.line(); line != "."; line = c.line() {
		if rest, ok := strings.CutPrefix(line, "SASL "); ok {
			capa = rest
		}
	}
	c.want("+OK mechanisms follow")
	for line := c.line(); line != "."; line = c.line() {
		list = strings.TrimPrefix(list+" "+line, " ")
	}
	if capa != list {
		c.t.Errorf("CAPA has %q, AUTH %q", capa, list)
	}
	return capa
}

func TestSCRAM(t *testing.T) {
	verifier, err := account.HashSCRAM([]byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := scramRig(t, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways},
			account.User{Name: "alice", Password: verifier}, account.User{Name: "bob", Password: "{PLAIN}tanstaaf"})
		c := r.connect()
		if got, want := c.sasl(), "SCRAM-SHA-256 PLAIN LOGIN"; got != want {
			t.Errorf("offered are %q, want %q", got, want)
		}
		const refused = "-ERR [AUTH] wrong name or password"
		for _, wrong := range []string{"alice", "bob", "nobody"} {
			if got := c.scram(wrong, "wrong"); got != refused {
				t.Errorf("%s: %s", wrong, got)
			}
		}
		c.send("AUTH SCRAM-SHA-256 bm90IHNjcmFt\r\nAUTH SCRAM-SHA-256\r\n*\r\nAUTH SCRAM-SHA-256-PLUS\r\n")
		c.want("-ERR that is not a first message of SCRAM-SHA-256")
		c.want("+ ")
		c.want("-ERR authentication cancelled")
		c.want("-ERR unknown authentication mechanism")
		// A nonce makes a challenge longer than other replies may be.
		c.send("AUTH SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString([]byte("n,,n=alice,r="+strings.Repeat("r", 5000))) + "\r\n*\r\n")
		if line := c.line(); len(line) < 5000 {
			t.Errorf("challenge of %d octets", len(line))
		}
		c.want("-ERR authentication cancelled")
		if got := c.scram("alice", "open sesame"); got != "+OK 1 messages (20 octets)" {
			t.Errorf("alice: %s", got)
		}
		c.send("QUIT\r\n")
		c.rest()
		if got := r.connect().scram("bob", "tanstaaf"); !strings.HasPrefix(got, "+OK ") {
			t.Errorf("bob: %s", got)
		}
		log := r.log.String()
		for _, want := range []string{`msg="login failed" .*mechanism=SCRAM-SHA-256 .*user=alice`, `msg="login failed" .*user=nobody`, `msg=login .*mechanism=SCRAM-SHA-256 .*user=alice`} {
			if !regexp.MustCompile(want).MatchString(log) {
				t.Errorf("no %s in the log:\n%s", want, log)
			}
		}
		if n := strings.Count(log, "login failed"); n != 3 {
			t.Errorf("%d failed logins in the log, want 3", n)
		}
	})
}

// By itself SCRAM is offered where everybody can use it and passwords are allowed
// as well. An operator who names it has it without TLS too.
func TestWhereSCRAMIsOffered(t *testing.T) {
	plain, hash := account.User{Name: "plain", Password: "{PLAIN}x"}, account.User{Name: "hash", Password: "{SSHA}WxMeMp+BQzPaD1ZULvT6bkeyOmE2F0iu"}
	named := []string{"USER", "SCRAM-SHA-256", "PLAIN"}
	for _, tt := range []struct {
		about string
		o     gateway.ListenerOptions
		users []account.User
		want  string
	}{
		{"everybody can", gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways}, []account.User{plain}, "SCRAM-SHA-256 PLAIN LOGIN"},
		{"somebody cannot", gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways}, []account.User{plain, hash}, "PLAIN LOGIN"},
		{"somebody cannot, named", gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways, Mechanisms: named}, []account.User{plain, hash}, "SCRAM-SHA-256 PLAIN"},
		{"nobody can, named", gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways, Mechanisms: named}, []account.User{hash}, "PLAIN"},
		{"no TLS", gateway.ListenerOptions{CleartextLogin: gateway.CleartextNever}, []account.User{plain}, ""},
		{"no TLS, named", gateway.ListenerOptions{CleartextLogin: gateway.CleartextNever, Mechanisms: named}, []account.User{plain}, "SCRAM-SHA-256"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := scramRig(t, tt.o, tt.users...).connect()
				if got := c.sasl(); got != tt.want {
					t.Errorf("offered are %q, want %q", got, tt.want)
				}
				got := c.scram("plain", "x")
				if offered := strings.Contains(tt.want, "SCRAM"); offered != strings.HasPrefix(got, "+OK ") && tt.users[0].Name == "plain" {
					t.Errorf("%q, though offered is %v", got, offered)
				}
			})
		})
	}
}
