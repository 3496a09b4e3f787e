package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// mailUID owns the mail and runs pop3gw: nobody's number.
const mailUID = 5000

// mailbox says what mail one user has. Equal values give equal mail.
type mailbox struct {
	user     string
	messages int
	octets   float64 // mean size of a message as stored
	sigma    float64 // of the lognormal distribution of sizes; 0: all alike
}

// mailboxes is n of one kind: user0, user1 and so on.
func mailboxes(n int, b mailbox) []mailbox {
	all := make([]mailbox, n)
	for i := range all {
		all[i] = b
		all[i].user = fmt.Sprint(b.user, i)
	}
	return all
}

// newShare is the part of the messages that lies in new/, not in cur/.
const newShare = 0.1

// writeMail writes the Maildir root/user of each box below every root, owned by
// uid. The copies are hard links: servers rename and remove mail, and never write to it.
func writeMail(roots []string, boxes []mailbox, uid int) error {
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for _, b := range boxes {
		group.Go(func() error { return b.write(roots, uid) })
	}
	return group.Wait()
}

func (b mailbox) write(roots []string, uid int) error {
	for _, root := range roots {
		for _, sub := range []string{"", "cur", "new", "tmp"} {
			dir := filepath.Join(root, b.user, sub)
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, uid, -1)); err != nil {
				return err
			}
		}
	}
	g := newGenerator(b)
	for i := range b.messages {
		name := fmt.Sprintf("%d.M%06dP%dQ%d.mx.example.org", 1600000000+61*i, g.rng.IntN(1e6), 1000+i%30000, i)
		sub, info := "cur", ":2,S"
		if g.rng.Float64() < newShare {
			sub, info = "new", ""
		}
		first := filepath.Join(roots[0], b.user, sub, name+info)
		if err := writeOwned(first, g.message(i), uid); err != nil {
			return err
		}
		for _, root := range roots[1:] {
			if err := os.Link(first, filepath.Join(root, b.user, sub, name+info)); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeOwned(path string, content []byte, uid int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chown(uid, -1), f.Close())
}

// generator makes the messages of one mailbox, one after the other.
type generator struct {
	box  mailbox
	rng  *rand.Rand
	fill [][]byte // lines of base64 to draw from
	buf  bytes.Buffer
}

func newGenerator(b mailbox) *generator {
	seed := fnv.New64a()
	fmt.Fprint(seed, b)
	g := &generator{box: b, rng: rand.New(rand.NewPCG(seed.Sum64(), 1939))}
	raw := make([]byte, 57) // 76 characters (RFC 2045 §6.8)
	for range 64 {
		for i := range raw {
			raw[i] = byte(g.rng.Uint32())
		}
		g.fill = append(g.fill, append(base64.StdEncoding.AppendEncode(nil, raw), '\n'))
	}
	return g
}

// minOctets has room for the header and the text of every message.
const minOctets = 600

// size draws the size of a message. The mean is that of the box, less what the
// bounds cut off.
func (g *generator) size() int {
	b := g.box
	mu := math.Log(b.octets) - b.sigma*b.sigma/2
	size := math.Exp(mu + b.sigma*g.rng.NormFloat64())
	return int(min(max(size, minOctets), 50*b.octets))
}

// message makes message i, valid until the next call, within a line of the
// size drawn. Lines end in LF, as an MTA delivers them; two or more begin with a
// dot, which POP3 must double (RFC 1939 §3).
func (g *generator) message(i int) []byte {
	size := g.size()
	w := &g.buf
	w.Reset()
	fmt.Fprintf(w, "Return-Path: <list-%d@example.net>\n", i%97)
	fmt.Fprintf(w, "Received: from out.example.net (out.example.net [192.0.2.%d])\n\tby mx.example.org with ESMTPS id %08x\n", i%250+1, g.rng.Uint32())
	fmt.Fprintf(w, "Message-ID: <%d.%016x@example.net>\n", i, g.rng.Uint64())
	fmt.Fprintf(w, "From: Sender %d <sender%d@example.net>\nTo: %s@example.org\nSubject: report %d\n", i%31, i%31, g.box.user, i)
	fmt.Fprintf(w, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=_%d\"\n\n", i)
	fmt.Fprintf(w, "--=_%d\n\nThe figures of day %d.\n.\n.profile is attached\n\n", i, i)
	fmt.Fprintf(w, "--=_%d\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n", i)
	for end := fmt.Sprintf("--=_%d--\n", i); ; {
		line := g.fill[g.rng.IntN(len(g.fill))]
		if g.rng.IntN(200) == 0 {
			line = []byte("..\n")
		}
		if w.Len()+len(line)+len(end) > size {
			w.WriteString(end)
			return w.Bytes()
		}
		w.Write(line)
	}
}

// deliver adds a message to a Maildir as an MTA does.
func deliver(maildir string, i int) error {
	name := fmt.Sprintf("%d.M%dP1.bench", time.Now().Unix(), i)
	written, path := filepath.Join(maildir, "tmp", name), filepath.Join(maildir, "new", name)
	if err := os.MkdirAll(filepath.Dir(written), 0o700); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(written, []byte("Subject: new\n\nIt came last.\n"), 0o644), os.Chown(written, mailUID, mailUID), os.Rename(written, path))
}
