// Package foldername knows the names of folders: as clients type them, behind the "+" of
// a login name, and as stores spell them. It is pure.
package foldername

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a name in octets, in UTF-8 and in modified UTF-7.
const maxName = 255

// Typed returns the name, in UTF-8, of the folder that a client typed. It may be in
// modified UTF-7, as IMAP clients show it where they do not decode it; a name that
// could be either is taken for that. "/" and "." stand between the levels, and none
// of these is empty, so that no name leads anywhere but down.
func Typed(typed string) (name string, err error) {
	wrong := func(what string) (string, error) { return "", fmt.Errorf("folder %.255q %s", typed, what) }
	if name, err = Decode(typed); err != nil {
		name = typed
	}
	switch {
	case len(typed) > maxName || len(Encode(name)) > maxName:
		return wrong("has more than 255 octets")
	case !utf8.ValidString(name):
		return wrong("is neither UTF-8 nor modified UTF-7")
	case strings.ContainsFunc(name, unicode.IsControl):
		return wrong("holds a control character")
	case strings.ContainsAny(name, "*%"):
		return wrong("holds a character that stands for others")
	case strings.HasPrefix(name, "~"):
		return wrong("begins like the folder of another user")
	}
	if name == "" {
		return "", nil
	}
	for level := range strings.SplitSeq(strings.ReplaceAll(name, "/", "."), ".") {
		if strings.TrimSpace(level) == "" {
			return wrong("has an empty level")
		}
	}
	return name, nil
}

// IsInbox reports whether name is that of the maildrop itself, in any case.
func IsInbox(name string) bool { return strings.EqualFold(name, "INBOX") }

var errEncoding = errors.New("not modified UTF-7")
