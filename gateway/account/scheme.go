package account

import (
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// scheme reads what follows {NAME} in a stored password, as Dovecot does.
type scheme struct {
	// parse makes a secret of the decoded text.
	parse func(decoded []byte) (*secret, error)

	// encoding is how the text is encoded where the name has no suffix.
	encoding textEncoding

	// size is the number of octets where all texts have the same, 0 otherwise.
	// Such a text may be in either encoding: its length tells.
	size int
}

type textEncoding int

const (
	encodedNot textEncoding = iota
	encodedHex
	encodedBase64
)

// schemes are those of Dovecot 2.3 that can check a plain password.
var schemes = map[string]scheme{
	"PLAIN":     {parse: plainSecret},
	"CLEAR":     {parse: plainSecret},
	"CLEARTEXT": {parse: plainSecret},

	"PLAIN-MD5": {digest("MD5", md5.New, false), encodedHex, md5.Size},
	"LDAP-MD5":  {digest("MD5", md5.New, false), encodedBase64, md5.Size},
	"SHA":       {digest("SHA1", sha1.New, false), encodedBase64, sha1.Size},
	"SHA1":      {digest("SHA1", sha1.New, false), encodedBase64, sha1.Size},
	"SHA256":    {digest("SHA256", sha256.New, false), encodedBase64, sha256.Size},
	"SHA512":    {digest("SHA512", sha512.New, false), encodedBase64, sha512.Size},

	"SMD5":    {parse: digest("SMD5", md5.New, true), encoding: encodedBase64},
	"SSHA":    {parse: digest("SSHA", sha1.New, true), encoding: encodedBase64},
	"SSHA256": {parse: digest("SSHA256", sha256.New, true), encoding: encodedBase64},
	"SSHA512": {parse: digest("SSHA512", sha512.New, true), encoding: encodedBase64},

	"CRYPT":        {parse: cryptScheme},
	"MD5":          {parse: cryptScheme}, // MD5-CRYPT, not a bare MD5
	"MD5-CRYPT":    {parse: cryptScheme},
	"BLF-CRYPT":    {parse: cryptScheme},
	"SHA256-CRYPT": {parse: cryptScheme},
	"SHA512-CRYPT": {parse: cryptScheme},
	"ARGON2I":      {parse: cryptScheme},
	"ARGON2ID":     {parse: cryptScheme},

	"PBKDF2":        {parse: parseDovecotPBKDF2},
	"SCRAM-SHA-1":   {parse: scramScheme("SCRAM-SHA-1", sha1.New)},
	"SCRAM-SHA-256": {parse: scramScheme("SCRAM-SHA-256", sha256.New)},
}

// unsupported are schemes of Dovecot's that are too weak or bound to a realm.
var unsupported = []string{"DES-CRYPT", "PLAIN-MD4", "PLAIN-TRUNC", "HMAC-MD5", "CRAM-MD5", "DIGEST-MD5",
	"OTP", "NTLM", "LM", "LANMAN", "RPA", "SKEY"}

// parseScheme reads the text after {name}. Names are the same in either case
// and may end in .HEX, .B64 or .BASE64.
func parseScheme(name, text string) (*secret, error) {
	name, suffix, suffixed := strings.Cut(strings.ToUpper(name), ".")
	sch, ok := schemes[name]
	if !ok {
		for _, u := range unsupported {
			if name == u {
				return nil, fmt.Errorf(`{%s} is not supported: make a new hash with "pop3gw passwd"`, u)
			}
		}
		return nil, errors.New(`the {SCHEME} is not known: use {PLAIN}, {SSHA512}, {SHA512-CRYPT}, {BLF-CRYPT}, ` +
			`{ARGON2ID} or another of Dovecot's, or make a hash with "pop3gw passwd"`)
	}
	encoding := sch.encoding
	switch {
	case suffixed && suffix == "HEX":
		encoding = encodedHex
	case suffixed && (suffix == "B64" || suffix == "BASE64"):
		encoding = encodedBase64
	case suffixed:
		return nil, fmt.Errorf("the suffix of {%s} is not known: use .HEX or .B64", name)
	case sch.size > 0 && len(text) == hex.EncodedLen(sch.size):
		encoding = encodedHex
	case sch.size > 0:
		encoding = encodedBase64
	}

	decoded, err := []byte(text), error(nil)
	switch encoding {
	case encodedHex:
		decoded, err = hex.DecodeString(text)
	case encodedBase64:
		decoded, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	}
	if err != nil || sch.size > 0 && len(decoded) != sch.size {
		return nil, fmt.Errorf("what follows {%s} is damaged or cut short", name)
	}
	s, err := sch.parse(decoded)
	if err != nil {
		return nil, fmt.Errorf("{%s}: %w", name, err)
	}
	return s, nil
}

// digest reads one unrepeated hash of the password, or of the password and a
// salt that follows the hash (RFC 2307's {SSHA}).
func digest(kind string, newHash func() hash.Hash, salted bool) func([]byte) (*secret, error) {
	return func(decoded []byte) (*secret, error) {
		size := newHash().Size()
		if len(decoded) < size || salted && len(decoded) == size {
			return nil, errors.New("the hash is cut short")
		}
		want, salt := decoded[:size], decoded[size:]
		return &secret{
			kind: kind,
			match: func(password []byte) bool {
				h := newHash()
				h.Write(password)
				h.Write(salt)
				return subtle.ConstantTimeCompare(h.Sum(nil), want) == 1
			},
		}, nil
	}
}

func cryptScheme(decoded []byte) (*secret, error) { return parseCrypt(string(decoded)) }

// parseDovecotPBKDF2 reads "$1$salt$rounds$key": PBKDF2 with HMAC-SHA-1, the
// salt as it stands there, the key in hexadecimal.
func parseDovecotPBKDF2(decoded []byte) (*secret, error) {
	f := strings.Split(string(decoded), "$")
	if len(f) != 5 || f[0] != "" || f[1] != "1" {
		return nil, errors.New(`the hash is not of the form "$1$salt$rounds$key"`)
	}
	rounds, err := boundedRounds(f[3], maxPBKDF2Rounds)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(f[4])
	if err != nil || len(key) != sha1.Size {
		return nil, errors.New("the key is not of 40 hexadecimal digits")
	}
	salt := []byte(f[2])
	return &secret{
		kind:   fmt.Sprintf("PBKDF2 rounds=%d", rounds),
		costly: true,
		match: func(password []byte) bool {
			got, err := pbkdf2.Key(sha1.New, string(password), salt, rounds, len(key))
			return err == nil && subtle.ConstantTimeCompare(got, key) == 1
		},
	}, nil
}

// boundedRounds reads a number of rounds from 1 to limit.
func boundedRounds(text string, limit int) (int, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 1:
		return 0, errors.New("the number of rounds is not a positive number")
	case n > limit:
		return 0, tooCostly(fmt.Sprintf("%d rounds", n), fmt.Sprintf("%d", limit))
	}
	return n, nil
}
