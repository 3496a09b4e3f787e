package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
)

// baseName returns what of a file name stays when flags change or the file moves
// from new to cur: all before the first colon. Delivery agents put no colon in
// it, and Dovecot, Courier and qmail cut it there as well.
func baseName(name string) string {
	base, _, _ := strings.Cut(name, ":")
	return base
}

// deliveryTime returns when the message with this base name was delivered, in
// microseconds since 1970: the number of seconds that the name begins with, and
// the microseconds of a part ".M123" right behind. It is 0 for a name that begins
// with no digit, and the greatest number where there are too many digits.
//
// As text the microseconds would sort M1000 before M2.
func deliveryTime(base string) int64 {
	digits, rest := cutDigits(base)
	if digits == "" {
		return 0
	}
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || seconds >= math.MaxInt64/1_000_000 {
		return math.MaxInt64
	}
	var micros int64
	if rest, ok := strings.CutPrefix(rest, ".M"); ok {
		digits, _ := cutDigits(rest)
		if len(digits) <= 6 {
			micros, _ = strconv.ParseInt(digits, 10, 64) // 0 for no digits
		}
	}
	return seconds*1_000_000 + micros
}

// cutDigits splits s behind its leading decimal digits.
func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

// statedSize returns the size of the file in octets as a field ",S=123" of its
// base name gives it (Maildir++), and whether there is one.
func statedSize(base string) (octets int64, ok bool) {
	_, fields, _ := strings.Cut(base, ",")
	for field := range strings.SplitSeq(fields, ",") {
		digits, found := strings.CutPrefix(field, "S=")
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		return int64(n), err == nil
	}
	return 0, false
}

const (
	maxUID     = 70        // octets (RFC 1939 §7)
	hashPrefix = "sha256-" // begins a UID that is not a base name
	hashOctets = 24        // of the digest; written as 48 hexadecimal digits
)

// appendUID appends the unique-id of the message with this base name: the base
// name, or a hash of it where that is no legal UID. A base name that looks like
// a hash is hashed as well, so that no two base names share a UID.
func appendUID(dst []byte, base string) []byte {
	if len(base) < 1 || len(base) > maxUID || strings.HasPrefix(base, hashPrefix) {
		return appendHash(dst, []byte(base))
	}
	for i := range len(base) {
		if base[i] < 0x21 || base[i] > 0x7e {
			return appendHash(dst, []byte(base))
		}
	}
	return append(dst, base...)
}

// appendDuplicateUID appends the unique-id of a file whose base name another
// file of the maildrop has too. No base name holds a NUL, so it is none of
// appendUID's.
func appendDuplicateUID(dst []byte, base string, inode uint64) []byte {
	return appendHash(dst, strconv.AppendUint(append([]byte(base), 0), inode, 10))
}

func appendHash(dst, of []byte) []byte {
	sum := sha256.Sum256(of)
	return hex.AppendEncode(append(dst, hashPrefix...), sum[:hashOctets])
}
