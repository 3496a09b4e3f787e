package account

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/xdg-go/scram"
)

// maxSecret bounds a stored password or hash, in octets. The longest of the
// supported hashes, SHA512-CRYPT in hexadecimal, needs about 250.
const maxSecret = 1024

// secret is what a password is checked against.
type secret struct {
	// kind is the scheme with its cost and without salt or key. Checking a
	// password against two secrets of one kind takes the same time.
	kind string

	// costly says that a check takes milliseconds or more by design.
	costly bool

	// plain is the password itself where it is stored, nil otherwise.
	plain []byte

	// scram checks the proofs of SCRAM-SHA-256 where it is stored, nil otherwise.
	scram *scram.StoredCredentials

	// match reports whether password is the right one, in a time that does not
	// depend on how much of it is right.
	match func(password []byte) bool

	// stored is the text it was parsed from, for the key of memory.
	stored string
}

// String keeps a secret out of logs, whatever verb printed it.
func (*secret) String() string   { return "(secret)" }
func (*secret) GoString() string { return "(secret)" }

var errNoScheme = errors.New(`found neither a {SCHEME} nor a hash that begins with "$": ` +
	`write {PLAIN} before a plain password, or make a hash with "pop3gw passwd"`)

// parseSecret reads a hash in crypt style or anything with a scheme of
// Dovecot's. Its errors hold nothing of stored, which may be a password in the
// wrong place.
func parseSecret(stored string) (*secret, error) {
	s, err := parseStored(stored)
	if err != nil {
		return nil, err
	}
	s.stored = stored
	return s, nil
}

func parseStored(stored string) (*secret, error) {
	switch {
	case len(stored) > maxSecret:
		return nil, errors.New("the hash is longer than 1024 octets")
	case strings.HasPrefix(stored, "$"):
		return parseCrypt(stored)
	case strings.HasPrefix(stored, "{"):
		scheme, rest, ok := strings.Cut(stored[1:], "}")
		if !ok {
			return nil, errors.New(`"}" is missing after the scheme`)
		}
		return parseScheme(scheme, rest)
	}
	return nil, errNoScheme
}

// plainSecret is the secret of a password stored as it is.
func plainSecret(password []byte) (*secret, error) {
	if len(password) == 0 {
		return nil, errors.New("the plain password is empty")
	}
	// The digests have equal lengths, so that comparing does not tell the
	// password's.
	want := sha256.Sum256(password)
	return &secret{
		kind:  "PLAIN",
		plain: password,
		match: func(p []byte) bool {
			got := sha256.Sum256(p)
			return subtle.ConstantTimeCompare(got[:], want[:]) == 1
		},
	}, nil
}

// matchAPOP reports whether digest is that of timestamp and the plain secret
// (RFC 1939 §7). It is false for a secret that is stored as a hash.
func (s *secret) matchAPOP(timestamp, digest string) bool {
	h := md5.New()
	h.Write([]byte(timestamp))
	h.Write(s.plain)
	want := hex.AppendEncode(nil, h.Sum(nil))
	same := subtle.ConstantTimeCompare([]byte(digest), want) == 1
	return same && s.plain != nil && timestamp != ""
}
