package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What an admin does to a gateway that is busy: a certificate is renewed, and the
// process is ended.

const (
	loadMessages = 40 // of each user, and as many again that are marked
	largeMessage = 4 << 20
)

// startLoaded serves Maildirs of users named in names, each with loadMessages
// small messages behind one large one.
func startLoaded(t *testing.T, names ...string) (p *process, dir, address string) {
	t.Helper()
	dir = t.TempDir()
	messages := loadedMessages()
	var users strings.Builder
	for _, name := range names {
		must(t, fillMaildir(filepath.Join(dir, name), messages))
		fmt.Fprintf(&users, "%s:{PLAIN}secret\n", name)
	}
	write(t, dir, "users", users.String())
	p, address = startOver(t, dir, `[adapters.files]
type = "maildir"
path = "`+dir+`/{user}"
[[routes]]
users = "*"
adapter = "files"
passwd_file = "users"
`)
	return p, dir, address
}

// startLoadedIMAP is startLoaded with an IMAP server for each name, at the address
// that is returned for it.
func startLoadedIMAP(t *testing.T, names ...string) (p *process, upstreams map[string]string, address string) {
	t.Helper()
	upstreams = make(map[string]string)
	var tables strings.Builder
	for _, name := range names {
		upstream, err := serveIMAP(loadedMessages())
		must(t, err)
		t.Cleanup(func() { upstream.Close() })
		upstreams[name] = upstream.address
		fmt.Fprintf(&tables, "[adapters.%s]\ntype = \"imap\"\naddress = %q\ntls = \"none\"\n[[users]]\nname = %[1]q\npassword = \"{PLAIN}secret\"\n"+
			"adapter = %[1]q\nupstream_user = \"imap\"\nupstream_password = %[3]q\n", name, upstream.address, demoPassword)
	}
	p, address = startOver(t, t.TempDir(), tables.String())
	return p, upstreams, address
}

// messagesAt is how many messages the INBOX of an upstream has.
func messagesAt(t *testing.T, upstream string) int {
	nc, err := net.Dial("tcp", upstream)
	if err != nil {
		t.Error(err)
		return -1
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(nc, "a LOGIN imap %s\r\nb EXAMINE INBOX\r\nc LOGOUT\r\n", demoPassword)
	all, err := io.ReadAll(nc)
	found := regexp.MustCompile(`\* (\d+) EXISTS`).FindSubmatch(all)
	if found == nil {
		t.Errorf("the server says %q, %v", all, err)
		return -1
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

func loadedMessages() [][]byte {
	line := strings.Repeat("x", 70) + "\r\n"
	messages := [][]byte{[]byte("Subject: large\r\n\r\n" + strings.Repeat(line, largeMessage/len(line)))}
	for i := range loadMessages {
		messages = append(messages, fmt.Appendf(nil, "Subject: %d\r\n\r\nshort\r\n", i))
	}
	return messages
}

// startOver serves with one listener and what tables say.
func startOver(t *testing.T, dir, tables string) (p *process, address string) {
	t.Helper()
	writeTestCertificate(t, dir)
	write(t, dir, "config.toml", `[[listeners]]
address = "127.0.0.1:0"
tls = "implicit"
[tls]
certificate = "tls.crt"
key = "tls.key"
`+tables)
	p = start(t, dir, "serve", "--config", dir+"/config.toml")
	address = p.out.find(t, `msg=listening address=(\S+) tls=implicit`)[1]
	p.out.find(t, "msg=ready")
	return p, address
}

var anyCertificate = &tls.Config{InsecureSkipVerify: true}

// logIn returns a client in TRANSACTION.
func logIn(t *testing.T, address, name string) *client {
	t.Helper()
	c, _ := dial(t, address, anyCertificate)
	c.do("+OK", "USER "+name)
	c.do("+OK 41 ", "PASS secret")
	return c
}

func named(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}

// A certificate that is renewed under load breaks no session, and new sessions
// have the new one within two seconds.
func TestCertificateRenewedUnderLoad(t *testing.T) {
	names := named("user", 8)
	p, dir, address := startLoaded(t, names...)
	fresh := t.TempDir()
	writeTestCertificate(t, fresh)

	// Sessions that last, and read all the time.
	over := make(chan struct{})
	var sessions sync.WaitGroup
	var read sync.Map
	for _, name := range names {
		c := logIn(t, address, name)
		c.nc.SetDeadline(time.Now().Add(time.Minute))
		sessions.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					read.Store(name, n)
					c.PrintfLine("QUIT")
					if line, err := c.ReadLine(); err != nil || !strings.HasPrefix(line, "+OK") {
						t.Errorf("%s: QUIT: %q, %v", name, line, err)
					}
					return
				default:
				}
				c.PrintfLine("RETR %d", n%loadMessages+1)
				line, err := c.ReadLine()
				if err == nil && strings.HasPrefix(line, "+OK") {
					_, err = io.Copy(io.Discard, c.DotReader())
				}
				if err != nil || !strings.HasPrefix(line, "+OK") {
					t.Errorf("%s: RETR: %q, %v", name, line, err)
					return
				}
			}
		})
	}
	// Sessions that come and go.
	connect := func() (serial string) {
		c, _ := dial(t, address, anyCertificate)
		defer c.nc.Close()
		c.do("+OK", "QUIT")
		return c.nc.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	old, want := serialOf(t, dir+"/tls.crt"), serialOf(t, fresh+"/tls.crt")
	for range 20 {
		if got := connect(); got != old {
			t.Fatalf("before: serial number %s, want %s", got, old)
		}
	}
	replace(t, dir+"/tls.key", fresh+"/tls.key")
	replace(t, dir+"/tls.crt", fresh+"/tls.crt")
	renewed := time.Now()
	for connect() != want {
		if took := time.Since(renewed); took > 2*time.Second {
			t.Errorf("the new certificate is not in force after %v", took)
			break
		}
	}
	t.Logf("new sessions have the new certificate after %v", time.Since(renewed).Round(time.Millisecond))
	for range 20 {
		if got := connect(); got != want {
			t.Errorf("after: serial number %s, want %s", got, want)
		}
	}
	close(over)
	sessions.Wait()
	for _, name := range names {
		if n, _ := read.Load(name); n == nil || n.(int) == 0 {
			t.Errorf("%s read nothing", name)
		}
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}
}

// slowly reads a little at a time.
type slowly struct{ r io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.r.Read(p[:min(len(p), 8<<10)])
}

// After SIGTERM a RETR that runs gets to its end, what QUIT began is done whole or
// not at all, and as its reply says, and the exit code is 0.
func TestTerminatedUnderLoad(t *testing.T) {
	readers, removers, idlers := named("reader", 4), named("remover", 6), named("idler", 3)
	names := append(append(readers, removers...), idlers...)
	t.Run("Maildir", func(t *testing.T) {
		p, dir, address := startLoaded(t, names...)
		terminate(t, p, address, readers, removers, idlers, func(name string) int { return countFiles(t, filepath.Join(dir, name, "new")) })
	})
	t.Run("IMAP", func(t *testing.T) {
		p, upstreams, address := startLoadedIMAP(t, names...)
		terminate(t, p, address, readers, removers, idlers, func(name string) int { return messagesAt(t, upstreams[name]) })
	})
}

// terminate ends a gateway at which clients are busy. left is how many messages are
// left of a name's.
func terminate(t *testing.T, p *process, address string, readers, removers, idlers []string, left func(name string) int) {

	var clients sync.WaitGroup
	var begun sync.WaitGroup
	for _, name := range readers {
		c := logIn(t, address, name)
		begun.Add(1)
		clients.Go(func() {
			c.PrintfLine("RETR 1")
			line, err := c.ReadLine()
			begun.Done()
			if err != nil || !strings.HasPrefix(line, "+OK") {
				t.Errorf("%s: RETR: %q, %v", name, line, err)
				return
			}
			var body bytes.Buffer
			_, err = io.Copy(&body, slowly{c.DotReader()})
			if err != nil || body.Len() < largeMessage*9/10 {
				t.Errorf("%s: a message was cut after %d octets: %v", name, body.Len(), err)
			}
		})
	}
	quit := make(chan struct{})
	for i, name := range removers {
		c := logIn(t, address, name)
		for n := range loadMessages {
			c.do("+OK", fmt.Sprint("DELE ", n+2))
		}
		clients.Go(func() {
			<-quit
			time.Sleep(time.Duration(i) * 2 * time.Millisecond) // before, while and after the signal comes
			c.PrintfLine("QUIT")
			line, err := c.ReadLine()
			removed := err == nil && strings.HasPrefix(line, fmt.Sprintf("+OK %d messages removed", loadMessages))
			refused := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || strings.HasPrefix(line, "-ERR [SYS/TEMP] server is shutting down")
			c.ReadLine() // to its end
			switch n := left(name); {
			case removed && n != 1, refused && n != loadMessages+1:
				t.Errorf("%s: %d messages are left after %q, %v", name, n, line, err)
			case !removed && !refused:
				t.Errorf("%s: QUIT: %q, %v", name, line, err)
			}
			t.Logf("%s: %q", name, line)
		})
	}
	for _, name := range idlers {
		c := logIn(t, address, name)
		c.do("+OK", "DELE 2")
		clients.Go(func() {
			line, err := c.ReadLine()
			if err != nil || !strings.HasPrefix(line, "-ERR [SYS/TEMP] server is shutting down") {
				t.Errorf("%s: %q, %v", name, line, err)
			}
		})
	}
	begun.Wait()
	close(quit)
	time.Sleep(6 * time.Millisecond)
	must(t, p.Process.Signal(syscall.SIGTERM))
	clients.Wait()
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, name := range append(idlers, readers...) {
		if n := left(name); n != loadMessages+1 {
			t.Errorf("%s has %d messages left", name, n)
		}
	}
	if log := p.out.String(); strings.Contains(log, "connections were cut") || strings.Contains(log, "level=ERROR") || !strings.Contains(log, "msg=stopped") {
		t.Errorf("the log:\n%s", log)
	}
}

// stallable is the address of a way to a server on which nothing goes to it any more
// once stall was called; the channel is closed when something would have.
func stallable(t *testing.T, server string) (address string, stall func() (held <-chan struct{})) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	held := make(chan struct{})
	var stalled atomic.Bool
	var once sync.Once
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go func() { io.Copy(client, upstream); client.Close() }()
			go func() {
				defer upstream.Close()
				buffer := make([]byte, 4096)
				for {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					if stalled.Load() {
						once.Do(func() { close(held) })
					} else if _, err := upstream.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), func() <-chan struct{} { stalled.Store(true); return held }
}

// A second signal ends at once also a removal at a server that hangs, and its client
// is told what is left.
func TestSecondSignalEndsARemoval(t *testing.T) {
	upstream, err := serveIMAP(splitMessages(demoMessages))
	must(t, err)
	defer upstream.Close()
	way, stall := stallable(t, upstream.address)
	p, address := startOver(t, t.TempDir(), fmt.Sprintf("[adapters.up]\ntype = \"imap\"\naddress = %q\ntls = \"none\"\n[[routes]]\nusers = \"*\"\nadapter = \"up\"\n", way))
	c, _ := dial(t, address, anyCertificate)
	c.do("+OK", "USER imap")
	c.do("+OK 5 ", "PASS "+demoPassword)
	c.do("+OK", "DELE 1")
	held := stall()
	must(t, c.PrintfLine("QUIT"))
	<-held
	must(t, p.Process.Signal(syscall.SIGTERM))
	p.out.find(t, `msg="shutting down"`)
	time.Sleep(100 * time.Millisecond) // until the second is waited for
	start := time.Now()
	must(t, p.Process.Signal(syscall.SIGTERM))
	if line := c.line("QUIT"); line != "-ERR [SYS/TEMP] 1 of 1 messages were not removed: server is shutting down" {
		t.Errorf("QUIT: %q", line)
	}
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it ended after %v", took)
	}
	if n := messagesAt(t, upstream.address); n != 5 {
		t.Errorf("%d messages are left, want 5", n)
	}
}
