package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// certificatePoll is the time between two looks at the files of [tls].
	certificatePoll = 500 * time.Millisecond
	// certificateSettle is how long the files are read again at each look after
	// a change was seen: their times of modification may be too coarse to show
	// the next one. Only then is it an error that they are no pair, since a
	// certificate and its key are seldom replaced at the same moment.
	certificateSettle = 2 * time.Second
	// maxPEM bounds each file, in octets.
	maxPEM = 1 << 20
)

// certificate is a pair of files that [tls] or [[tls.certificates]] names. What
// handshakes use is replaced when the files change, and only by a pair that can
// be used. One goroutine uses it.
type certificate struct {
	config  *config // which names it
	key     string  // "tls" or "tls.certificates[0]"
	files   pairConfig
	inForce *tls.Certificate

	read     [2]fs.FileInfo // certificate and key when they were last read; nil is missing
	unstable time.Time      // until then they are read at each look
	err      error          // why what was last read cannot be used
	reported bool           // err was logged
}

// load reads the files and, if they are a pair, puts it in force.
func (c *certificate) load() error {
	c.read = c.stat() // before reading, so that a change meanwhile is seen later
	certPEM, certErr := c.config.readPEM(c.key+".certificate", c.files.Certificate)
	keyPEM, keyErr := c.config.readPEM(c.key+".key", c.files.Key)
	if err := errors.Join(certErr, keyErr); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return c.config.source.errorf(c.key, "%w; %s and %s must be PEM files of one pair", err, c.files.Certificate, c.files.Key)
	}
	c.inForce = &pair
	return nil
}

func (c *config) readPEM(key, path string) ([]byte, error) {
	text, err := readRegular(path)
	if err != nil {
		return nil, c.source.errorf(key, "%w; set it to a PEM file that the gateway's user (uid %d) can read", err, os.Geteuid())
	}
	return text, nil
}

// readRegular reads a file of at most maxPEM octets.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // opening a FIFO must not wait for its writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = fmt.Errorf("%s has more than %d octets", path, maxPEM)
	}
	return text, err
}

// stat looks at the files that the names lead to, through any links.
func (c *certificate) stat() (infos [2]fs.FileInfo) {
	for i, path := range []string{c.files.Certificate, c.files.Key} {
		if info, err := os.Stat(path); err == nil {
			infos[i] = info
		}
	}
	return infos
}

// changed reports whether the files are not those that were last read.
func (c *certificate) changed() bool {
	for i, is := range c.stat() {
		was := c.read[i]
		if was == nil || is == nil {
			if was != is {
				return true
			}
		} else if !os.SameFile(was, is) || was.Size() != is.Size() || !was.ModTime().Equal(is.ModTime()) {
			return true
		}
	}
	return false
}

// look reads the files if they changed or could not be used, and reports why
// they cannot be used once they have settled. replaced says that others are in
// force now.
func (c *certificate) look(log *slog.Logger) (replaced bool) {
	now := time.Now()
	if c.changed() {
		c.unstable, c.reported = now.Add(certificateSettle), false
	}
	unstable := now.Before(c.unstable)
	if unstable || c.err != nil {
		replaced = c.reload(log)
	}
	if !unstable && !c.reported {
		c.report(log)
	}
	return replaced
}

// reload loads the files. What cannot be used leaves the certificate in force.
func (c *certificate) reload(log *slog.Logger) (replaced bool) {
	before := c.leaf()
	if c.err = c.load(); c.err != nil {
		return false
	}
	after := c.leaf()
	if after.Equal(before) {
		return false
	}
	log.Info("certificate replaced", "subject", after.Subject.String(), "names", after.DNSNames, "good_until", after.NotAfter)
	c.warn(log)
	return true
}

func (c *certificate) report(log *slog.Logger) {
	c.reported = true
	for _, err := range flatten(c.err) {
		log.Error("the certificate was not replaced; the one before stays in force", "good_until", c.leaf().NotAfter, "error", err)
	}
}

// warn logs why clients will refuse the certificate, if they will.
func (c *certificate) warn(log *slog.Logger) {
	if err := c.valid(time.Now()); err != nil {
		log.Warn("clients will refuse the certificate", "reason", err)
	}
}

// leaf is the certificate in force, without those of its issuers.
func (c *certificate) leaf() *x509.Certificate { return c.inForce.Leaf }

// valid reports why the certificate in force is not good at a time.
func (c *certificate) valid(at time.Time) error {
	leaf, path := c.leaf(), c.files.Certificate
	switch {
	case at.After(leaf.NotAfter):
		return c.config.source.errorf(c.key+".certificate", "%s expired on %s; renew it", path, leaf.NotAfter.Format(time.DateOnly))
	case at.Before(leaf.NotBefore):
		return c.config.source.errorf(c.key+".certificate", "%s is good only from %s; is this machine's clock right?", path, leaf.NotBefore.Format(time.DateOnly))
	}
	return nil
}
