//go:build real

package real

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// tap is a TCP relay that counts the POP3 commands passing through, so that a
// test need not believe either end.
type tap struct {
	port int

	mu     sync.Mutex
	counts map[string]int
}

// startTap relays to addr until the end of the test.
func startTap(t testing.TB, addr string) *tap {
	t.Helper()
	p := &tap{counts: make(map[string]int)}
	p.port = relay(t, addr, p.relay, plainly)
	return p
}

// relay listens until the end of the test, and connects each client with addr: up
// copies from the client, and down to it, until either end is closed.
func relay(t testing.TB, addr string, up, down func(to io.Writer, from io.Reader)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				client.Close()
				continue
			}
			go func() { down(client, server); client.Close() }()
			go func() { up(server, client); server.Close() }()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func plainly(to io.Writer, from io.Reader) { io.Copy(to, from) }

func (p *tap) relay(server io.Writer, client io.Reader) {
	r := bufio.NewReader(client)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb := "an empty line"
		if words := strings.Fields(strings.ToUpper(line)); len(words) > 0 {
			verb = words[0]
			// fetchmail keeps mail on the server unread by asking for the top of
			// it, down to the end.
			if verb == "TOP" && len(words) == 3 && len(words[2]) > 4 {
				verb = "RETR"
			}
		}
		p.mu.Lock()
		p.counts[verb]++
		p.mu.Unlock()
		if _, err := io.WriteString(server, line); err != nil {
			return
		}
	}
}

// count returns how often a command came since the last reset.
func (p *tap) count(command string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[command]
}

func (p *tap) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
}
