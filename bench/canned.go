package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// canned is a POP3 server in this process whose replies were made beforehand.
// What the client reaches with it is a bound for what it can measure.
type canned struct {
	listener net.Listener
	mail     string // folder with the Maildirs

	mu    sync.Mutex
	drops map[string]*cannedDrop
}

// cannedDrop has the replies for one maildrop.
type cannedDrop struct {
	stat, list, uidl    []byte
	sizes, uids, bodies [][]byte // by message: replies of LIST n, UIDL n, RETR n
}

func newCanned(mail string) (*canned, error) {
	plain := net.ListenConfig{KeepAlive: -1}
	plain.SetMultipathTCP(false) // which costs time, and nothing here is to
	l, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &canned{listener: l, mail: mail, drops: make(map[string]*cannedDrop)}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				s.serve(nc)
			}()
		}
	}()
	return s, nil
}

func (s *canned) addr() string { return s.listener.Addr().String() }

func (s *canned) close() { s.listener.Close() }

var cannedWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}

// serve ends with the connection; what goes wrong is for the client to notice.
func (s *canned) serve(nc net.Conn) {
	out := cannedWriters.Get().(*bufio.Writer)
	defer cannedWriters.Put(out)
	out.Reset(nc)
	in := bufio.NewReader(nc)
	out.WriteString("+OK\r\n")
	user, drop := "", new(cannedDrop)
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		word, arg, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		switch reply := drop.reply(word, arg); {
		case reply != nil:
			out.Write(reply)
		case word == "USER":
			user = arg
			out.WriteString("+OK\r\n")
		case word == "PASS":
			if drop, err = s.open(user); err != nil {
				fmt.Fprintf(out, "-ERR %v\r\n", err)
				out.Flush()
				return
			}
			out.WriteString("+OK\r\n")
		case word == "NOOP":
			out.WriteString("+OK\r\n")
		case word == "QUIT":
			out.WriteString("+OK\r\n")
			out.Flush()
			return
		default:
			out.WriteString("-ERR\r\n")
		}
	}
}

// reply is nil where the command is none about a maildrop's messages.
func (d *cannedDrop) reply(word, arg string) []byte {
	var all []byte
	var each [][]byte
	switch word {
	case "STAT":
		all = d.stat
	case "LIST":
		all, each = d.list, d.sizes
	case "UIDL":
		all, each = d.uidl, d.uids
	case "RETR":
		each = d.bodies
	}
	if arg == "" {
		return all
	}
	if n, err := strconv.Atoi(arg); err == nil && 1 <= n && n <= len(each) {
		return each[n-1]
	}
	return nil
}

// open makes the replies of a maildrop when it is first asked for.
func (s *canned) open(user string) (*cannedDrop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.drops[user]; d != nil {
		return d, nil
	}
	d := &cannedDrop{list: []byte("+OK\r\n"), uidl: []byte("+OK\r\n")}
	octets := 0
	for _, sub := range []string{"cur", "new"} {
		dir := filepath.Join(s.mail, user, sub)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			text = crlf(text)
			octets += len(text)
			base, _, _ := strings.Cut(e.Name(), ":")
			size := fmt.Appendf(nil, "%d %d\r\n", len(d.sizes)+1, len(text))
			uid := fmt.Appendf(nil, "%d %s\r\n", len(d.sizes)+1, base)
			d.list, d.uidl = append(d.list, size...), append(d.uidl, uid...)
			d.sizes, d.uids = append(d.sizes, append([]byte("+OK "), size...)), append(d.uids, append([]byte("+OK "), uid...))
			d.bodies = append(d.bodies, retrReply(text))
			if len(d.sizes) > maxCannedBodies {
				d.bodies = nil // nobody downloads so many
			}
		}
	}
	d.stat = fmt.Appendf(nil, "+OK %d %d\r\n", len(d.sizes), octets)
	d.list, d.uidl = append(d.list, ".\r\n"...), append(d.uidl, ".\r\n"...)
	s.drops[user] = d
	return d, nil
}

// maxCannedBodies is the largest maildrop whose messages are held in memory.
const maxCannedBodies = 2000

// retrReply is the reply to RETR for a message with CRLF line ends.
func retrReply(text []byte) []byte {
	reply := append([]byte("+OK\r\n"), text...)
	return append(bytes.ReplaceAll(reply, []byte("\r\n."), []byte("\r\n..")), ".\r\n"...)
}
