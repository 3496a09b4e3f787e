//go:build real

package real

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// victim is an address that no client comes from. Attackers try to have it banned
// in their place.
const victim = "203.0.113.66"

// hostileNames are names that look like parts of the log.
var hostileNames = []string{
	"alice",
	"x remote=" + victim + " tls=none",
	`x" session=AAAAAAAAAA remote=` + victim + ` tls=none mechanism=PLAIN reply="[AUTH] wrong name or password"`,
	"x\ntime=2026-01-01T00:00:00.000Z level=WARN msg=\"login failed\" session=AAAAAAAAAA remote=" + victim + " tls=none mechanism=PLAIN reply=\"[AUTH] wrong name or password\" user=x",
	"x\r\n" + `{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"login failed","session":"AAAAAAAAAA","remote":"` + victim + `","tls":"none","mechanism":"PLAIN","reply":"[AUTH] wrong name or password","user":"x"}`,
	`x","remote":"` + victim + `","reply":"[AUTH]`,
	`\",\"remote\":\"` + victim,
	"x\u2028pop3gw[1]: level=WARN msg=\"login failed\" session=A remote=" + victim,
	"5c1de0a7f9b2: level=WARN msg=\"login failed\" session=A remote=" + victim + " tls=none mechanism=PLAIN reply=\"[AUTH]",
	"host pop3gw[1]: time=2026-01-01T00:00:00Z level=WARN",
	`"` + victim + `"`,
	"\\", `\"`, `"`, "=", "x\x1b[2K", "\xff\xfe" + victim, victim,
}

// balancedGateway serves clients whose addresses PROXY headers tell, so that they
// can be any.
func balancedGateway(t *testing.T, format string) *gateway {
	t.Helper()
	g := &gateway{port: freePort(t), config: filepath.Join(folder(t), "config.toml")}
	mail := newMaildirs(t)
	write(t, g.config, fmt.Sprintf(`hostname = "pop.example.org"
[[listeners]]
address = %q
tls = "none"
cleartext_login = "always"
proxy_protocol_from = ["127.0.0.1"]
[limits]
login_failure_delay = "1ms"
max_errors = 3
max_login_failures = 100
[log]
format = %q
%s`, loopback(g.port), format, mail.adapter()), 0o644)
	mail.create(t, "alice")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	g.process = start(t, "pop3gw", exec.Command(path, "serve", "--config", g.config))
	g.waitListening(t)
	return g
}

// waitListening waits for the log, since a connection without a PROXY header gets
// no greeting.
func (g *gateway) waitListening(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(g.log.String(), "ready"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("pop3gw is not ready:\n%s", g.log)
		}
	}
}

// dialFrom connects as the client at address from.
func dialFrom(t *testing.T, g *gateway, from string) *pop3 {
	t.Helper()
	kind, to := "TCP4", "192.0.2.1"
	if strings.Contains(from, ":") {
		kind, to = "TCP6", "2001:db8::1"
	}
	conn, err := net.DialTimeout("tcp", g.addr(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "PROXY %s %s %s 40000 110\r\n", kind, from, to)
	c := &pop3{conn: conn, r: bufio.NewReader(conn)}
	if _, err := c.reply(); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	return c
}

func refusedLogin(t *testing.T, c *pop3, name string) {
	t.Helper()
	response := base64.StdEncoding.EncodeToString([]byte("\x00" + name + "\x00wrong"))
	if _, err := c.command("AUTH PLAIN %s", response); err == nil {
		t.Errorf("%q logged in", name)
	}
}

// TestFail2ban has fail2ban read what pop3gw wrote of refused logins with names
// that were made up to be mistaken for something else.
func TestFail2ban(t *testing.T) {
	filter, err := filepath.Abs("../../packaging/fail2ban/filter.d/pop3gw.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			g := balancedGateway(t, format)
			refused := make(map[string]int) // by address
			attackers := []string{"198.51.100.1", "198.51.100.2", "2001:db8:bad::3"}
			for i, name := range hostileNames {
				from := attackers[i%len(attackers)]
				c := dialFrom(t, g, from)
				refusedLogin(t, c, name)
				refused[from]++
				c.command("QUIT")
			}
			// Clients that are none of the filter's business: one that logs in, one that
			// leaves, one with names that are no commands.
			good := dialFrom(t, g, "198.51.100.50")
			for _, command := range []string{"USER alice", "PASS " + password, "QUIT"} {
				if _, err := good.command("%s", command); err != nil {
					t.Error(err)
				}
			}
			dialFrom(t, g, "198.51.100.51").command("QUIT")
			stranger := dialFrom(t, g, "198.51.100.52")
			for range 3 {
				stranger.command("GET / HTTP/1.0 remote=%s", victim)
			}
			if err := g.stop(); err != nil {
				t.Fatal(err)
			}
			log := g.log.String()
			// As a file, as syslog writes it, and as fail2ban gets it from the journal, also
			// of containers without a tag and with their name.
			var b strings.Builder
			prefixes := []string{"", "Nov 27 20:40:59 mail pop3gw[1234]: ", "mail pop3gw[1234]: ", "mail 5c1de0a7f9b2[812]: ", "mail x_pop3gw_1[812]: "}
			for _, prefix := range prefixes {
				for line := range strings.Lines(log) {
					b.WriteString(prefix + line)
				}
			}
			for from := range refused {
				refused[from] *= len(prefixes)
			}
			path := filepath.Join(folder(t), "pop3gw.log")
			write(t, path, b.String(), 0o644)
			matched(t, path, filter, refused)
			refused["198.51.100.52"] = len(prefixes)
			matched(t, path, filter+"[mode=aggressive]", refused)
		})
	}
}

// matched compares the addresses that fail2ban finds in a log with want.
func matched(t *testing.T, log, filter string, want map[string]int) {
	t.Helper()
	out, err := run(time.Minute, exec.Command("fail2ban-regex", "--usedns=no", "-o", "ip", log, filter))
	if err != nil {
		t.Fatalf("fail2ban-regex: %v\n%s", err, out)
	}
	got := make(map[string]int)
	for _, ip := range strings.Fields(out) {
		got[ip]++
	}
	if !maps.Equal(got, want) {
		text, _ := os.ReadFile(log)
		t.Errorf("%s finds %v\nwant %v in\n%s", filter, got, want, text)
	}
}

// TestFail2banJail has a fail2ban of our own follow the log and ban, with an action
// that writes down whom.
func TestFail2banJail(t *testing.T) {
	g := balancedGateway(t, "text")
	dir := folder(t)
	log, banned := filepath.Join(dir, "pop3gw.log"), filepath.Join(dir, "banned")
	write(t, log, g.log.String(), 0o644)
	config := filepath.Join(dir, "fail2ban")
	if err := os.Mkdir(config, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"fail2ban.conf", "jail.conf", "paths-debian.conf", "paths-common.conf", "filter.d", "action.d"} {
		if out, err := exec.Command("cp", "-r", filepath.Join("/etc/fail2ban", part), config).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, name := range []string{"filter.d/pop3gw.conf", "jail.d/pop3gw.conf"} {
		text, err := os.ReadFile(filepath.Join("../../packaging/fail2ban", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(config, name), string(text), 0o644)
	}
	test := func(name string, args ...string) {
		t.Helper()
		if out, err := run(time.Minute, exec.Command("fail2ban-client", append([]string{"-c", config}, args...)...)); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	test("the jail as it is shipped", "--test")

	write(t, filepath.Join(config, "action.d/note.conf"), "[Definition]\nactionban = echo <ip> >>"+banned+"\nactionunban =\n", 0o644)
	write(t, filepath.Join(config, "jail.d/zz.local"), "[pop3gw]\nbackend = polling\nlogpath = "+log+"\naction = note\n", 0o644)
	fail2ban := start(t, "fail2ban", exec.Command("fail2ban-server", "-c", config, "-s", filepath.Join(dir, "socket"), "-p", filepath.Join(dir, "pid"),
		"--logtarget", "STDOUT", "--syslogsocket", "none", "-x", "-f", "start"))
	for end := time.Now().Add(30 * time.Second); !strings.Contains(fail2ban.log.String(), "Jail 'pop3gw' started"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("fail2ban does not start the jail")
		}
	}
	for i := range 6 {
		refusedLogin(t, dialFrom(t, g, "198.51.100.9"), hostileNames[i+2])
	}
	refusedLogin(t, dialFrom(t, g, "198.51.100.10"), "once") // once is no reason
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	write(t, log, g.log.String(), 0o644)
	var got []byte
	for end := time.Now().Add(30 * time.Second); len(got) == 0; time.Sleep(100 * time.Millisecond) {
		got, _ = os.ReadFile(banned)
		if time.Now().After(end) {
			t.Fatalf("nobody is banned:\n%s", fail2ban.log)
		}
	}
	time.Sleep(1500 * time.Millisecond) // whether anybody else is
	if got, _ = os.ReadFile(banned); string(got) != "198.51.100.9\n" {
		t.Errorf("banned are:\n%s", got)
	}
}
