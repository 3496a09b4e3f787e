package account

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a login name and a folder, in octets, typed or in normal form.
const maxName = 255

// nameRules turn what a client typed into a login name's normal form.
type nameRules struct {
	domain    string // appended as "@domain" where there is no "@"; "" for none
	lowerCase bool   // the whole name
}

// normal returns the normal form of name, of 1 to 255 octets of UTF-8 without
// control characters or an "@" at either end. Nothing is trimmed: " bob" is
// another name than "bob".
func (r nameRules) normal(name string) (string, error) {
	if err := checkText(name); err != nil {
		return "", err
	}
	if strings.HasPrefix(name, "@") || strings.HasSuffix(name, "@") {
		return "", errors.New("the name has nothing on one side of its @")
	}
	if r.domain != "" && !strings.Contains(name, "@") {
		name += "@" + r.domain
	}
	if r.lowerCase {
		name = strings.ToLower(name)
	}
	// Either step may lengthen it.
	return name, checkText(name)
}

func checkText(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return errors.New("the name is longer than 255 octets")
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the name has control characters")
	}
	return nil
}

// splitFolder takes name+folder, name+folder@domain or name@domain+folder apart
// at the first "+". The folder is returned as typed, "" for INBOX in any case.
// ok is false where there is no folder in it.
func splitFolder(typed string) (name, folder string, ok bool) {
	name, folder, ok = strings.Cut(typed, "+")
	if !ok {
		return typed, "", false
	}
	if !strings.Contains(name, "@") {
		if at := strings.LastIndexByte(folder, '@'); at >= 0 {
			name += folder[at:]
			folder = folder[:at]
		}
	}
	if strings.EqualFold(folder, "INBOX") {
		folder = ""
	}
	return name, folder, true
}

// matches reports whether name fits pattern, in which "*" stands for any
// characters, none included, and "?" for one. Case does not matter.
func matches(pattern, name string) bool {
	p, s := []rune(strings.ToLower(pattern)), []rune(strings.ToLower(name))
	star, resume := -1, 0 // the last "*" seen, and where in s what follows it is tried
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, resume = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			resume++
			i, j = star+1, resume
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
