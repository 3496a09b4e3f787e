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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &tap{port: l.Addr().(*net.TCPAddr).Port, counts: make(map[string]int)}
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
			go func() {
				io.Copy(client, server)
				client.Close()
			}()
			go func() {
				p.relay(server, client)
				server.Close()
			}()
		}
	}()
	return p
}

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
