package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// balancer is the address whose PROXY headers are believed, in the tests of them.
const balancer = "127.0.0.2"

var fromBalancer = []netip.Prefix{netip.MustParsePrefix(balancer + "/32")}

// serveLogged serves one maildrop, alice's, and returns where, and the log.
func serveLogged(t *testing.T, o gateway.ListenerOptions, limits gateway.Limits) (address string, log *syncBuffer) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = new(syncBuffer)
	if limits.LoginFailureDelay == 0 {
		limits.LoginFailureDelay = 1
	}
	server := &gateway.Server{Accounts: anyone{memory(sample)}, Limits: limits,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	go server.Serve(l, o)
	t.Cleanup(func() { server.Shutdown(t.Context()) })
	return l.Addr().String(), log
}

// connectFrom connects from an address of this machine and sends header.
func connectFrom(t *testing.T, from, to string, header []byte) net.Conn {
	t.Helper()
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := nc.Write(header); err != nil {
		t.Fatal(err)
	}
	return nc
}

// proxyHeader is one that says source.
func proxyHeader(t *testing.T, version byte, source string) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)),
		net.TCPAddrFromAddrPort(netip.MustParseAddrPort(strings.NewReplacer("2001", "2002", "198", "203", "127", "127").Replace(source))))
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProxyHeader(t *testing.T) {
	local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	if err != nil {
		t.Fatal(err)
	}
	tlvs := &proxyproto.Header{Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
		SourceAddr: &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 1}, DestinationAddr: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 110}}
	tlvs.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(strings.Repeat("x", 900))}})
	long, err := tlvs.Format()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		header   []byte
		client   string
		password bool // may be sent without TLS from this machine alone
	}{
		{"v1", proxyHeader(t, 1, "198.51.100.7:4711"), "198.51.100.7", false},
		{"v1 IPv6", proxyHeader(t, 1, "[2001:db8::7]:4711"), "2001:db8::7", false},
		{"v1 IPv4 as IPv6", []byte("PROXY TCP6 198.51.100.7 203.0.113.1 4711 110\r\n"), "198.51.100.7", false},
		{"v1 unknown", []byte("PROXY UNKNOWN\r\n"), balancer, false},
		{"v1 unknown with addresses", []byte("PROXY UNKNOWN 198.51.100.7 203.0.113.1 1 2\r\n"), balancer, false},
		{"v1 loopback", proxyHeader(t, 1, "127.0.0.9:4711"), "127.0.0.9", true},
		{"v2", proxyHeader(t, 2, "198.51.100.7:4711"), "198.51.100.7", false},
		{"v2 IPv6", proxyHeader(t, 2, "[2001:db8::7]:4711"), "2001:db8::7", false},
		{"v2 with much behind it", long, "198.51.100.7", false},
		{"v2 local", local, balancer, false},
	} {
		for _, implicit := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, implicit TLS %v", tt.name, implicit), func(t *testing.T) {
				o := tlsOptions(t)
				o.Implicit, o.ProxyFrom = implicit, fromBalancer
				address, log := serveLogged(t, o, gateway.Limits{})
				nc := connectFrom(t, balancer, address, tt.header)
				if implicit {
					nc = tls.Client(nc, tlsClient)
				}
				c := &client{t, nc, bufio.NewReader(nc)}
				c.want("+OK localhost POP3 server ready")
				c.send("USER alice\r\n")
				if got := strings.HasPrefix(c.line(), "+OK"); got != (tt.password || implicit) {
					t.Errorf("USER is accepted: %v", got)
				}
				if !implicit {
					c.send("STLS\r\n")
					c.want("+OK begin TLS")
					c.nc = tls.Client(nc, tlsClient)
					c.in = bufio.NewReader(c.nc)
				}
				c.send("USER alice\r\nPASS x\r\nQUIT\r\n")
				if got := c.rest(); !strings.HasSuffix(got, "+OK 0 messages removed, bye\r\n") {
					t.Errorf("got %q", got)
				}
				want := " via=" + balancer + " remote=" + tt.client + ` tls="TLS 1.3" mechanism=USER user=alice `
				if !strings.Contains(log.String(), want) {
					t.Errorf("no %q in\n%s", want, log)
				}
			})
		}
	}
}

// A header and the first commands may come in one piece.
func TestProxyHeaderWithMoreBehindIt(t *testing.T) {
	o := tlsOptions(t)
	o.ProxyFrom = fromBalancer
	address, _ := serveLogged(t, o, gateway.Limits{})
	nc := connectFrom(t, balancer, address, append(proxyHeader(t, 1, "198.51.100.7:4711"), "AUTH\r\nQUIT\r\n"...))
	got, err := io.ReadAll(nc)
	if want := "+OK localhost POP3 server ready\r\n+OK mechanisms follow\r\n.\r\n+OK bye\r\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// A balancer that sends no header, or a wrong one, gets no session: to take its
// address for the client's would be a guess.
func TestWithoutProxyHeader(t *testing.T) {
	for _, first := range []string{"USER alice\r\n", "PROXY TCP4 nonsense\r\n", "PROXY TCP4 198.51.100.7 203.0.113.1 4711\r\n", "PROXY" + strings.Repeat(" ", 200),
		"\r\n\r\n\x00\r\nQUIT\n\x21\x99\x00\x00", "\x16\x03\x01\x02\x00"} {
		o := tlsOptions(t)
		o.ProxyFrom = fromBalancer
		address, log := serveLogged(t, o, gateway.Limits{})
		nc := connectFrom(t, balancer, address, []byte(first))
		if got, _ := io.ReadAll(nc); len(got) > 0 {
			t.Errorf("%q is answered by %q", first, got)
		}
		waitFor(t, log, `msg="connection refused" session=\S+ remote=127.0.0.2 reason="no PROXY header, though proxy_protocol_from has this address"`)
	}
}

// Who is no balancer cannot say that it is somebody else.
func TestUntrustedProxyHeader(t *testing.T) {
	for _, version := range []byte{1, 2} {
		for _, implicit := range []bool{false, true} {
			for _, from := range [][]netip.Prefix{nil, fromBalancer} {
				o := tlsOptions(t)
				o.Implicit, o.ProxyFrom = implicit, from
				address, log := serveLogged(t, o, gateway.Limits{})
				nc := connectFrom(t, "127.0.0.3", address, append(proxyHeader(t, version, "198.51.100.7:4711"), "USER alice\r\nPASS x\r\n"...))
				got, _ := io.ReadAll(nc)
				want := ""
				if !implicit {
					want = "+OK localhost POP3 server ready\r\n-ERR a PROXY header is not taken from this address\r\n"
				}
				if string(got) != want && !implicit { // with TLS comes an alert
					t.Errorf("version %d, implicit TLS %v: got %q", version, implicit, got)
				}
				waitFor(t, log, `level=WARN msg="connection refused" session=\S+ remote=127.0.0.3 reason=".*add it to proxy_protocol_from"`)
				waitFor(t, log, `ended="unexpected PROXY header"`)
				if strings.Contains(log.String(), "msg=login") {
					t.Errorf("somebody has logged in:\n%s", log)
				}
			}
		}
	}
	// Without a header they are served as they are.
	o := tlsOptions(t)
	o.ProxyFrom = fromBalancer
	address, log := serveLogged(t, o, gateway.Limits{})
	io.WriteString(connectFrom(t, "127.0.0.3", address, nil), "USER alice\r\nPASS x\r\nQUIT\r\n")
	waitFor(t, log, `msg=login session=\S+ remote=127.0.0.3 tls=none mechanism=USER user=alice `)
}

// A balancer that asks whether the server lives leaves no line at level info.
func TestHealthChecksAreQuiet(t *testing.T) {
	local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		header []byte
		reset  bool
	}{{nil, false}, {nil, true}, {local, false}, {local, true}, {[]byte("PROXY UNKNOWN\r\n"), true}} {
		for _, implicit := range []bool{false, true} {
			o := tlsOptions(t)
			o.Implicit, o.ProxyFrom = implicit, fromBalancer
			address, log := serveLogged(t, o, gateway.Limits{})
			nc := connectFrom(t, balancer, address, tt.header)
			if tt.reset {
				nc.(*net.TCPConn).SetLinger(0)
			}
			nc.Close()
			waitFor(t, log, `msg="session ended"`)
			if got := log.String(); strings.Count(got, "level=") != strings.Count(got, "level=DEBUG") {
				t.Errorf("%q, reset %v, implicit TLS %v:\n%s", tt.header, tt.reset, implicit, got)
			}
		}
	}
}

// A balancer that says nothing does not hold a connection for long.
func TestProxyHeaderTimeout(t *testing.T) {
	for _, piece := range []string{"", "P", "\r\n\r\n\x00\r\nQUIT"} {
		synctest.Test(t, func(t *testing.T) {
			server := &gateway.Server{Accounts: anyone{memory(sample)}, Log: slog.New(slog.DiscardHandler)}
			l := maildroptest.NewListener()
			go server.Serve(l, gateway.ListenerOptions{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
			defer server.Shutdown(t.Context())
			nc, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			io.WriteString(nc, piece)
			if got, err := io.ReadAll(nc); len(got) > 0 || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// Connections through a balancer count for their clients, those of an IPv6
// network for one, and not for the balancer.
func TestMaxConnectionsPerAddressBehindBalancer(t *testing.T) {
	o := gateway.ListenerOptions{ProxyFrom: fromBalancer}
	address, log := serveLogged(t, o, gateway.Limits{MaxConnectionsPerAddress: 2})
	greeting := func(source string) string {
		nc := connectFrom(t, balancer, address, proxyHeader(t, 2, source))
		line, _ := bufio.NewReader(nc).ReadString('\n')
		return line
	}
	for i, tt := range []struct {
		source string
		ok     bool
	}{
		{"198.51.100.1:1", true}, {"198.51.100.1:2", true}, {"198.51.100.1:3", false}, {"198.51.100.2:1", true},
		{"[2001:db8:0:1::1]:1", true}, {"[2001:db8:0:1::2]:1", true}, {"[2001:db8:0:1:ffff::3]:1", false}, {"[2001:db8:0:2::1]:1", true},
	} {
		if got := greeting(tt.source); strings.HasPrefix(got, "+OK") != tt.ok {
			t.Errorf("connection %d, from %s: %q", i+1, tt.source, got)
		}
	}
	for i := range 5 { // the balancer's own checks, which stay open
		nc := connectFrom(t, balancer, address, []byte("PROXY UNKNOWN\r\n"))
		if line, _ := bufio.NewReader(nc).ReadString('\n'); !strings.HasPrefix(line, "+OK") {
			t.Errorf("check %d: %q", i+1, line)
		}
	}
	waitFor(t, log, `msg="connection refused" session=\S+ via=127.0.0.2 remote=198.51.100.1 reason="too many connections from this address"`)
}
