//go:build real

package real

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// balancerAddress is what the balancers connect from, and the gateway trusts.
const balancerAddress = "127.0.0.2"

// way is a port of a balancer and what comes of a connection to it.
type way struct {
	name     string
	port     int // takes a PROXY header of a balancer before it
	implicit bool
}

// startHAProxy leads to both ports of a gateway by each version of the protocol.
// It checks their health all the time, with a header and without.
func startHAProxy(t *testing.T, stls, implicit int) []way {
	t.Helper()
	var ways []way
	var config strings.Builder
	config.WriteString("defaults\n\tmode tcp\n\ttimeout connect 5s\n\ttimeout client 60s\n\ttimeout server 60s\n")
	ports := freePorts(t, 8)
	for _, version := range []string{"send-proxy", "send-proxy-v2"} {
		for _, to := range []int{stls, implicit} {
			for _, check := range []string{"", fmt.Sprintf("port %d", to)} { // a port of their own leaves the header out
				w := way{fmt.Sprintf("haproxy %s, check %s", version, check), ports[len(ways)], to == implicit}
				fmt.Fprintf(&config, "listen on%d\n\tbind 127.0.0.1:%d accept-proxy\n\tserver gateway 127.0.0.1:%d %s source %s check inter 100ms %s\n",
					w.port, w.port, to, version, balancerAddress, check)
				ways = append(ways, w)
			}
		}
	}
	path := filepath.Join(folder(t), "haproxy.cfg")
	write(t, path, config.String(), 0o644)
	p := start(t, "haproxy", exec.Command("/usr/sbin/haproxy", "-db", "-f", path))
	p.waitWays(t, ways)
	return ways
}

// startNginx is startHAProxy; nginx knows version 1 alone, and checks nothing.
func startNginx(t *testing.T, stls, implicit int) []way {
	t.Helper()
	dir := folder(t)
	var ways []way
	var config strings.Builder
	fmt.Fprintf(&config, "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nuser root;\ndaemon off;\npid %s/pid;\nerror_log stderr;\nevents {}\nstream {\n", dir)
	ports := freePorts(t, 2)
	for i, to := range []int{stls, implicit} {
		w := way{"nginx", ports[i], to == implicit}
		fmt.Fprintf(&config, "\tserver {\n\t\tlisten 127.0.0.1:%d proxy_protocol;\n\t\tset_real_ip_from 127.0.0.1;\n\t\tproxy_bind %s;\n\t\tproxy_protocol on;\n\t\tproxy_pass 127.0.0.1:%d;\n\t}\n",
			w.port, balancerAddress, to)
		ways = append(ways, w)
	}
	config.WriteString("}\n")
	path := filepath.Join(dir, "nginx.conf")
	write(t, path, config.String(), 0o644)
	p := start(t, "nginx", exec.Command("/usr/sbin/nginx", "-p", dir, "-e", "stderr", "-c", path))
	p.waitWays(t, ways)
	return ways
}

// freePorts are like freePort's, and no two alike.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		ports = append(ports, freePort(t))
	}
	return ports
}

// waitWays waits until the balancer listens.
func (p *process) waitWays(t *testing.T, ways []way) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, w := range ways {
		for {
			nc, err := net.DialTimeout("tcp", loopback(w.port), time.Second)
			if err == nil {
				nc.Close()
				break
			}
			select {
			case <-p.done:
				t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.log.tail(3000))
			case <-time.After(30 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not listen: %v\n%s", p.name, err, p.log.tail(3000))
			}
		}
	}
}

// connect comes to the balancer from a client that another balancer before it
// tells of.
func (w way) connect(t *testing.T, client string) *pop3 {
	t.Helper()
	nc, err := net.DialTimeout("tcp", loopback(w.port), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	family, to := "TCP4", "203.0.113.1"
	if strings.Contains(client, ":") {
		family, to = "TCP6", "2001:db8::1"
	}
	fmt.Fprintf(nc, "PROXY %s %s %s 4711 110\r\n", family, client, to)
	c := newPOP3(nc)
	if w.implicit {
		c = newPOP3(tls.Client(nc, &tls.Config{RootCAs: testRoots(t), ServerName: "localhost"}))
	}
	if _, err := c.reply(); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	return c
}

// TestBalancers logs in through HAProxy and nginx, with TLS that passes through
// them.
func TestBalancers(t *testing.T) {
	m := newMaildirs(t)
	m.deliver(t, "alice", letters(3)...)
	ports := freePorts(t, 2)
	stls, implicit := ports[0], ports[1]
	g := startGateway(t, m, fmt.Sprintf(`
[[listeners]]
address = %q
tls = "stls"
proxy_protocol_from = [%[3]q]
[[listeners]]
address = %[2]q
tls = "implicit"
proxy_protocol_from = [%[3]q]
[limits]
max_connections_per_address = 2
`, loopback(stls), loopback(implicit), balancerAddress))
	logins := 0
	ways := append(startHAProxy(t, stls, implicit), startNginx(t, stls, implicit)...)
	for _, w := range ways {
		for _, client := range []string{"198.51.100.7", "2001:db8::7"} {
			c := w.connect(t, client)
			if !w.implicit {
				if text, err := c.command("USER alice"); err == nil {
					t.Errorf("%s: a client of another machine may send its password without TLS: %s", w.name, text)
				}
				c.must(t, "STLS")
				c = newPOP3(tls.Client(c.conn, &tls.Config{RootCAs: testRoots(t), ServerName: "localhost"}))
			}
			c.must(t, "USER alice")
			c.must(t, "PASS %s", password)
			if got := c.retrieve(t, 3); len(got) == 0 {
				t.Errorf("%s: an empty message", w.name)
			}
			c.must(t, "QUIT")
			c.conn.Close()
			logins++
			if want := fmt.Sprintf(" via=%s remote=%s ", balancerAddress, client); !strings.Contains(g.log.String(), want) {
				t.Errorf("%s: no %q in the log", w.name, want)
			}
		}

		// A client that many know.
		scheme := "pop3"
		if w.implicit {
			scheme = "pop3s"
		}
		out, err := run(30*time.Second, exec.Command("/usr/bin/curl", "--silent", "--show-error", "--haproxy-protocol", "--ssl-reqd", "--cacert", testCA().caFile,
			"--user", "alice:"+password, fmt.Sprintf("%s://localhost:%d/1", scheme, w.port)))
		if err != nil || !strings.Contains(out, "letter 0") {
			t.Errorf("%s: curl: %v\n%s", w.name, err, out)
		}
		logins++
	}

	// Limits go by the client.
	w := ways[len(ways)-2]
	for i, ok := range []bool{true, true, false} {
		nc, err := net.Dial("tcp", loopback(w.port))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(nc, "PROXY TCP4 198.51.100.8 203.0.113.1 %d 110\r\n", i+1)
		answer := make([]byte, 4)
		if _, err := io.ReadFull(nc, answer); err != nil || (string(answer) == "+OK ") != ok {
			t.Errorf("connection %d of one client: %q, %v", i+1, answer, err)
		}
	}

	// So do the delays of failed logins: half a second, one, and two.
	for i, w := range []way{ways[2], ways[len(ways)-1]} {
		guesser := w.connect(t, fmt.Sprint("198.51.100.", 20+i))
		began := time.Now()
		for k := range 3 {
			guesser.must(t, "USER alice")
			if text, err := guesser.command("PASS wrong%d", k); err == nil {
				t.Errorf("%s: a wrong password: %s", w.name, text)
			}
		}
		if took := time.Since(began); took < 3500*time.Millisecond {
			t.Errorf("%s: three failures took %v", w.name, took)
		}
		began = time.Now()
		other := w.connect(t, fmt.Sprint("198.51.100.", 30+i))
		other.must(t, "USER alice")
		other.must(t, "PASS %s", password)
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("%s: a login took %v after another client had failed", w.name, took)
		}
		logins++
		other.must(t, "QUIT")
		guesser.must(t, "QUIT")
	}

	log := g.log.String()
	if n := strings.Count(log, "msg=login "); n != logins {
		t.Errorf("%d logins in the log, want %d", n, logins)
	}
	// The checks of HAProxy came ten times a second on each way.
	for line := range strings.Lines(log) {
		if strings.Contains(line, "connection refused") && !strings.Contains(line, "remote=198.51.100.8 ") ||
			strings.Contains(line, `msg="session ended"`) && !regexp.MustCompile(`ended=quit|remote=198\.51\.100\.8`).MatchString(line) {
			t.Errorf("a health check or a client in the log: %s", line)
		}
	}
}
