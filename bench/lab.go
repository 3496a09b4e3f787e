package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// oneWay is the delay before the far IMAP server: 40 ms for a round trip, as
// farAway says.
const oneWay = 20 * time.Millisecond

// lab is all that works run on. Servers start when they are needed.
type lab struct {
	dir string

	gateway, gatewayNear, gatewayFar *server // pop3gw over Maildirs, over IMAP, over IMAP with the delay
	gatewayAnew                      *server // as gatewayFar, but it keeps no connection
	dovecot, imapcNear, imapcFar     *server // Dovecot likewise
	upstream                         *server // the IMAP server
	path                             *proxy  // the way to it with the delay
	canned                           *canned
}

// newLab makes everything but the mail in a folder of its own.
func newLab(ctx context.Context) (_ *lab, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed, for Dovecot; run this as root or with sudo")
	}
	if _, err := exec.LookPath("dovecot"); err != nil {
		return nil, fmt.Errorf("%w; apt-get install dovecot-pop3d dovecot-imapd", err)
	}
	l := new(lab)
	if l.dir, err = os.MkdirTemp("", "pop3gw-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if err = os.Chmod(l.dir, 0o755); err != nil { // the mail's owner must get in
		return nil, err
	}
	binary, users := l.file("pop3gw"), l.file("users")
	if err = buildGateway(ctx, binary); err != nil {
		return nil, err
	}
	cert, err := newKeyPair(l.dir)
	if err != nil {
		return nil, err
	}
	if l.gateway, err = maildirGateway(binary, l.file("gateway"), l.mail("gateway"), users, cert); err != nil {
		return nil, err
	}
	if l.dovecot, err = dovecotPOP3(l.file("dovecot"), l.mail("dovecot"), users, cert); err != nil {
		return nil, err
	}
	if l.upstream, err = dovecotIMAP(l.file("upstream"), l.mail("upstream"), users, cert); err != nil {
		return nil, err
	}
	if l.path, err = newProxy(l.upstream.addr, oneWay); err != nil {
		return nil, err
	}
	if l.gatewayNear, err = imapGateway(binary, l.file("gateway-near"), l.upstream.addr, cert); err != nil {
		return nil, err
	}
	if l.gatewayFar, err = imapGateway(binary, l.file("gateway-far"), l.path.addr(), cert); err != nil {
		return nil, err
	}
	if l.gatewayAnew, err = imapGateway(binary, l.file("gateway-anew"), l.path.addr(), cert, `keep_connections = "0s"`); err != nil {
		return nil, err
	}
	indexes := l.file("indexes") // of both: the far one need not make its own
	if l.imapcNear, err = dovecotIMAPC(l.file("imapc-near"), indexes, l.upstream.addr, cert); err != nil {
		return nil, err
	}
	if l.imapcFar, err = dovecotIMAPC(l.file("imapc-far"), indexes, l.path.addr(), cert); err != nil {
		return nil, err
	}
	// pop3gw renames nothing, so that its mail can be read here too.
	if l.canned, err = newCanned(l.mail("gateway")); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *lab) file(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) mail(of string) string { return filepath.Join(l.dir, "mail", of) }

// mailOf is the Maildir where the messages of a box are that s serves.
func (l *lab) mailOf(s *server, b mailbox) string {
	of := "upstream"
	switch s {
	case l.gateway:
		of = "gateway"
	case l.dovecot:
		of = "dovecot"
	}
	return filepath.Join(l.mail(of), b.user)
}

// fill writes the mail of the works, with a copy for each server that has mail,
// and the file of all users.
func (l *lab) fill(works []work) error {
	var users strings.Builder
	var boxes []mailbox
	seen := make(map[string]bool)
	for _, w := range works {
		for _, b := range w.boxes {
			if !seen[b.user] {
				seen[b.user] = true
				boxes = append(boxes, b)
				fmt.Fprintf(&users, "%s:{PLAIN}%s\n", b.user, password)
			}
		}
	}
	roots := []string{l.mail("gateway"), l.mail("dovecot"), l.mail("upstream")}
	for _, root := range roots {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(l.file("users"), []byte(users.String()), 0o644), writeMail(roots, boxes, mailUID))
}

// close stops every server and removes every file.
func (l *lab) close() error {
	var stopping sync.WaitGroup
	for _, s := range []*server{l.gateway, l.gatewayNear, l.gatewayFar, l.gatewayAnew, l.dovecot, l.imapcNear, l.imapcFar, l.upstream} {
		if s != nil {
			stopping.Go(s.stop)
		}
	}
	stopping.Wait()
	if l.path != nil {
		l.path.close()
	}
	if l.canned != nil {
		l.canned.close()
	}
	return os.RemoveAll(l.dir)
}
