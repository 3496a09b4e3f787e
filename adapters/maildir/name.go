package maildir

import (
	"math"
	"strconv"
	"strings"

	"pop3gw/gateway/uidl"
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

// appendDuplicateUID appends the unique-id of a file whose base name another
// file of the maildrop has too. No base name holds a NUL, so it is none of theirs.
func appendDuplicateUID(dst []byte, base string, inode uint64) []byte {
	return uidl.AppendHash(dst, strconv.AppendUint(append([]byte(base), 0), inode, 10))
}
