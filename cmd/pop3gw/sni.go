package main

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// certificates are the pairs of [tls] and [[tls.certificates]]. Which of them a
// client gets depends on the name that it asks for (SNI, RFC 6066 §3) and on the
// kinds of key that it can use. One goroutine changes them; handshakes see the
// result.
type certificates struct {
	pairs   []*certificate
	wantRSA bool // a listener has the profile "legacy"
	named   atomic.Pointer[namedCertificates]
}

// namedCertificates are those in force. They do not change.
type namedCertificates struct {
	all    []*tls.Certificate            // in the order of the configuration
	files  []string                      // of each
	byName map[string][]*tls.Certificate // by names in lower case; "*.example.org" is one
}

// certificatePairs reads what [tls] names. Pairs that are in force stay so for
// now, even if their files could not be read again.
func (c *config) certificatePairs(inForce []*certificate) ([]*certificate, error) {
	var pairs []*certificate
	var errs []error
	for _, p := range c.TLS.pairs() {
		pair := &certificate{config: c, key: p.key, files: p.files}
		if i := slices.IndexFunc(inForce, func(old *certificate) bool { return old.files == p.files }); i >= 0 {
			old := *inForce[i]
			pair = &old
			pair.config, pair.key = c, p.key
		} else if err := pair.load(); err != nil {
			errs = append(errs, err)
			continue
		}
		pairs = append(pairs, pair)
	}
	return pairs, errors.Join(errs...)
}

// use puts other pairs in force. wantRSA says that a listener is for old devices.
func (c *certificates) use(pairs []*certificate, wantRSA bool) {
	c.pairs, c.wantRSA = pairs, wantRSA
	c.publish()
}

// publish shows handshakes what is in force.
func (c *certificates) publish() {
	n := &namedCertificates{byName: make(map[string][]*tls.Certificate)}
	for _, pair := range c.pairs {
		n.all, n.files = append(n.all, pair.inForce), append(n.files, pair.files.Certificate)
		names := pair.leaf().DNSNames
		if len(names) == 0 {
			names = []string{pair.leaf().Subject.CommonName}
		}
		for _, name := range names {
			name = strings.ToLower(name)
			n.byName[name] = append(n.byName[name], pair.inForce)
		}
	}
	c.named.Store(n)
}

// forClient is tls.Config's GetCertificate: the first certificate for the name
// whose key the client can use, else for a wildcard of it, else the first of all.
func (c *certificates) forClient(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	n := c.named.Load()
	name := strings.ToLower(hello.ServerName)
	_, domain, _ := strings.Cut(name, ".")
	nameless := *hello // whether the name fits is known
	nameless.ServerName = ""
	for _, candidates := range [][]*tls.Certificate{n.byName[name], n.byName["*."+domain], n.all} {
		for _, candidate := range candidates {
			if nameless.SupportsCertificate(candidate) == nil {
				return candidate, nil
			}
		}
	}
	return n.all[0], nil // the handshake will say why not
}

// watch reads files again when they change, until ctx ends, and calls again at
// each hangup. Sessions are not disturbed.
func (c *certificates) watch(ctx context.Context, hangup <-chan os.Signal, again func(), log *slog.Logger) {
	ticker := time.NewTicker(certificatePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			again()
		case <-ticker.C:
			replaced := false
			for _, pair := range c.pairs {
				replaced = pair.look(log) || replaced
			}
			if replaced {
				c.replaced(log)
			}
		}
	}
}

// reload reads all files now.
func (c *certificates) reload(log *slog.Logger) {
	for _, pair := range c.pairs {
		pair.reload(log)
		pair.report(log)
	}
	c.replaced(log)
}

// replaced shows handshakes what is in force, and says whom it leaves out. ACME
// clients may change the kind of key with a renewal.
func (c *certificates) replaced(log *slog.Logger) {
	c.publish()
	if c.wantRSA && !hasRSA(c.pairs) {
		log.Error("no certificate has an RSA key any more, so that old devices cannot connect; renew one with such a key (certbot: --key-type rsa)")
	}
}

func hasRSA(pairs []*certificate) bool {
	return slices.ContainsFunc(pairs, func(pair *certificate) bool {
		_, ok := pair.inForce.PrivateKey.(*rsa.PrivateKey)
		return ok
	})
}
