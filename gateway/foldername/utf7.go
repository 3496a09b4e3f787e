package foldername

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding is base64 with "," in place of "/", and without padding.
var encoding = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding).Strict()

func isPlain(r rune) bool { return r >= ' ' && r <= '~' }

// Encode returns a name in modified UTF-7 (RFC 3501 §5.1.3): IMAP servers know
// mailboxes by it, and a Maildir++ has it on disk.
func Encode(name string) string {
	var encoded, run []byte
	flush := func() {
		if len(run) > 0 {
			encoded = append(encoding.AppendEncode(append(encoded, '&'), run), '-')
			run = run[:0]
		}
	}
	for _, r := range name {
		if !isPlain(r) {
			for _, unit := range utf16.Encode([]rune{r}) {
				run = append(run, byte(unit>>8), byte(unit))
			}
			continue
		}
		flush()
		if encoded = append(encoded, byte(r)); r == '&' {
			encoded = append(encoded, '-')
		}
	}
	flush()
	return string(encoded)
}

// Decode is the reverse of Encode. What Encode would write otherwise is an error, so
// that no two texts decode to one name.
func Decode(encoded string) (string, error) {
	var name strings.Builder
	for rest := encoded; rest != ""; {
		plain, after, shifted := strings.Cut(rest, "&")
		name.WriteString(plain)
		if !shifted {
			break
		}
		run, more, ended := strings.Cut(after, "-")
		if !ended {
			return "", errEncoding
		}
		rest = more
		if run == "" {
			name.WriteByte('&')
			continue
		}
		raw, err := encoding.DecodeString(run)
		if err != nil || len(raw)%2 != 0 {
			return "", errEncoding
		}
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		for _, r := range utf16.Decode(units) {
			if r == utf8.RuneError {
				return "", errEncoding
			}
			name.WriteRune(r)
		}
	}
	if Encode(name.String()) != encoded {
		return "", errEncoding
	}
	return name.String(), nil
}
