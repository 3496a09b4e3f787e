//go:build real

package real

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"
)

// TestClientAddress looks into Dovecot's log for the address of a client, which is
// not the gateway's: with send_client_address Dovecot takes it for the client of the
// login, right or wrong, and without it the gateway.
func TestClientAddress(t *testing.T) {
	for _, send := range []bool{true, false} {
		d := startDovecot(t)
		extra := `tls = "none"`
		if send {
			extra += "\nsend_client_address = true"
		}
		g := startGateway(t, configured{d, imapAdapter(d.port, extra)}, "")
		d.deliver(t, "alice", letter("hello", "text\n"))
		for _, password := range []string{password, "wrong"} {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, Timeout: 10 * time.Second}
			nc, err := dialer.Dial("tcp", g.addr())
			if err != nil {
				t.Fatal(err)
			}
			c := &pop3{conn: nc, r: bufio.NewReader(nc)}
			if _, err := c.reply(); err != nil {
				t.Fatal(err)
			}
			c.must(t, "USER alice")
			if _, err := c.command("PASS %s", password); (err == nil) != (password != "wrong") {
				t.Errorf("PASS: %v", err)
			}
			c.command("QUIT")
			nc.Close()
		}
		gatewayLog := g.log.String()
		_, rest, _ := strings.Cut(gatewayLog, "msg=login ")
		if !strings.Contains(rest, "remote=127.0.0.9") {
			t.Errorf("the gateway does not know the client by its address:\n%s", gatewayLog)
		}
		for _, event := range []string{"Login: user=<alice>", "user=<alice>, method=PLAIN"} {
			var line string
			for deadline := time.Now().Add(10 * time.Second); line == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				for l := range strings.Lines(d.log.String()) {
					if strings.Contains(l, event) && (strings.HasPrefix(event, "Login") || strings.Contains(l, "auth failed")) {
						line = l
					}
				}
			}
			want := "rip=127.0.0.1,"
			if send {
				want = "rip=127.0.0.9,"
			}
			if !strings.Contains(line, want) {
				t.Errorf("Dovecot's log says %q, want %s", line, want)
			}
			if _, id, _ := strings.Cut(line, "session=<"); send && !strings.Contains(gatewayLog, "session="+strings.TrimRight(id, ">\n")) {
				t.Errorf("Dovecot's log has another session than the gateway's: %q", line)
			}
		}
	}
}
