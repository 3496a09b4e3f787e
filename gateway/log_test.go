package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
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

// events are those of docs/monitoring.md that sessions write, with the keys behind
// time, level and msg, in their order.
var events = []struct {
	level, msg string
	keys       string
}{
	{"INFO", "login", "session remote tls mechanism user messages octets"},
	{"WARN", "login failed", "session remote tls mechanism reply user error"},
	{"INFO", "session ended", "session remote tls ended user retrieved tops octets removed duration"},
	{"INFO", "session ended", "session remote tls ended user retrieved tops octets removed duration error"},
	{"INFO", "message removed", "session user number uid octets"},
	{"ERROR", "messages were not removed", "session user marked done error"},
	{"ERROR", "message broke off, closing the connection without its end", "session user number uid octets error"},
	{"WARN", "command failed", "session user reply error"},
	{"WARN", "connection refused", "remote reason unlogged"},
	{"INFO", "session is ended by the operator", "session"},
	{"ERROR", "a session ended by an internal error; please report it", "session user panic stack"},
}

// Whoever reads the log by programs finds each event with its level and its keys, in
// text and as JSON, and the manual says which they are.
func TestLogEvents(t *testing.T) {
	text, lines := new(syncBuffer), new(syncBuffer)
	log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(text, nil), slog.NewJSONHandler(lines, nil)))
	failure := errors.New("failure")
	talk := func(adapter gateway.Adapter, limits gateway.Limits, commands string) *rig {
		r := newRig(t, adapter, limits)
		r.server.Log = log
		c := r.connect()
		c.send(commands)
		c.rest()
		return r
	}
	const login = "USER alice\r\nPASS x\r\n"
	talk(memory(sample), gateway.Limits{LoginFailureDelay: 1}, "USER alice\r\nPASS wrong\r\n"+login+"DELE 1\r\nQUIT\r\n")
	talk(&maildroptest.Faults{Adapter: memory(sample), DeleteErr: map[int]error{0: failure}}, gateway.Limits{}, login+"DELE 1\r\nQUIT\r\n")
	talk(&maildroptest.Faults{Adapter: memory(sample), RetrieveErr: map[int]error{0: failure}}, gateway.Limits{}, login+"RETR 1\r\nQUIT\r\n")
	talk(&maildroptest.Faults{Adapter: memory(sample + strings.Repeat(sample, 9000)), Body: map[int]maildroptest.BodyFault{0: {After: 100_000, Err: failure}}}, gateway.Limits{}, login+"RETR 1\r\n")
	broken := &panicking{Adapter: memory(sample), where: "Retrieve"}
	talk(broken, gateway.Limits{}, login+"RETR 1\r\n")

	r := newRig(t, memory(sample), gateway.Limits{MaxConnectionsPerAddress: 1})
	r.server.Log = log
	c := r.logIn("alice")
	nc, err := r.listener.Dial()
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, nc)
	r.server.Kick(r.server.Sessions()[0].ID)
	c.rest()

	// One that was refused its TLS has an error.
	o := tlsOptions(t)
	o.Implicit = true
	server := &gateway.Server{Accounts: anyone{memory()}, Log: log}
	l := maildroptest.NewListener()
	go server.Serve(l, o)
	if nc, err = l.Dial(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "GET / HTTP/1.0\r\n\r\n")
	io.Copy(io.Discard, nc)
	nc.Close()
	server.Shutdown(t.Context())

	seen := make(map[string]bool)
	both := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	for i, line := range strings.Split(strings.TrimSuffix(lines.String(), "\n"), "\n") {
		keys, values := fields(t, line)
		if got := strings.Join(keys[:3], " "); got != "time level msg" {
			t.Errorf("a line begins with %s: %s", got, line)
		}
		event := values[1] + " " + values[2] + ": " + strings.Join(keys[3:], " ")
		seen[event] = true
		rest := both[i]
		for _, key := range keys { // in the same order
			_, after, found := strings.Cut(rest, key+"=")
			if !found {
				t.Errorf("as text, %s is not in its place: %s", key, both[i])
			}
			rest = after
		}
	}
	manual, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		event := e.level + " " + e.msg + ": " + e.keys
		if !seen[event] {
			t.Errorf("not in the log: %s", event)
		}
		delete(seen, event)
		always, _ := strings.CutSuffix(e.keys, "removed duration error")
		if row := "| `" + e.msg + "` | " + e.level + " | `" + strings.Join(strings.Fields(always), "`, `"); !strings.Contains(string(manual), row) {
			t.Errorf("docs/monitoring.md has no row %s", row)
		}
	}
	for event := range seen {
		t.Errorf("in the log, and not among the events: %s", event)
	}
}

// fields are the keys of a JSON object in their order, with the values that are texts.
func fields(t *testing.T, object string) (keys, values []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(object))
	d.Token() // {
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatalf("%v: %s", err, object)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%v: %s", err, object)
		}
		text, _ := value.(string)
		keys, values = append(keys, key.(string)), append(values, text)
	}
	return keys, values
}
