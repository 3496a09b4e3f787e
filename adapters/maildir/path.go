package maildir

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"pop3gw/gateway/foldername"
)

// template is Options.Path, checked.
type template struct {
	// root is the folder above the first placeholder, or all of a path that has
	// none. No login name and no symbolic link leads out of it.
	root  string
	below string // the rest, relative to root; "." for none
}

const placeholders = "{user}, {local} and {domain}"

// parseTemplate checks a path with placeholders. Errors begin with the key.
func parseTemplate(path string) (template, error) {
	if path == "" {
		return template{}, errors.New(`path: missing; it is the Maildir of an account, such as "/var/mail/{domain}/{local}/Maildir"`)
	}
	if !filepath.IsAbs(path) {
		return template{}, fmt.Errorf("path: found %q; it must begin with /", path)
	}
	if i := strings.IndexFunc(path, isControl); i >= 0 {
		return template{}, fmt.Errorf("path: found %q; it must not hold a control character", path)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." || part == "." {
			return template{}, fmt.Errorf("path: found %q; it must not hold %q", path, part)
		}
	}
	path = filepath.Clean(path)
	for rest := path; ; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[i] == '}' || end < 0 {
			return template{}, fmt.Errorf("path: found %q; it has a brace without its partner; placeholders are %s", path, placeholders)
		}
		switch name := rest[i : end+1]; name {
		case "{user}", "{local}", "{domain}":
		default:
			return template{}, fmt.Errorf("path: found %q; it has the unknown placeholder %s; allowed are %s", path, name, placeholders)
		}
		rest = rest[end+1:]
	}
	brace := strings.IndexByte(path, '{')
	if brace < 0 {
		return template{root: path, below: "."}, nil
	}
	slash := strings.LastIndexByte(path[:brace], '/')
	return template{root: filepath.Clean(path[:slash+1]), below: path[slash+1:]}, nil
}

// expand returns the path below root of the Maildir of a login name. It is local:
// whatever the name, it does not leave root.
func (t template) expand(user string) (string, error) {
	if err := checkPart(user); err != nil && strings.Contains(t.below, "{user}") {
		return "", fmt.Errorf("login name %q %w", user, err)
	}
	var local, domain string
	if strings.Contains(t.below, "{local}") || strings.Contains(t.below, "{domain}") {
		at := strings.LastIndexByte(user, '@')
		if at < 0 {
			return "", fmt.Errorf("login name %q has no @: %w", user, errNoDomain)
		}
		local, domain = user[:at], user[at+1:]
		if err := checkPart(local); err != nil {
			return "", fmt.Errorf("the part before the @ of login name %q %w", user, err)
		}
		if err := checkPart(domain); err != nil {
			return "", fmt.Errorf("the domain of login name %q %w", user, err)
		}
	}
	// A single pass: braces within a value are not looked at again. A strings.Replacer
	// would be 2 KB for each login.
	values := map[string]string{"user": user, "local": local, "domain": domain}
	path, rest, found := strings.Cut(t.below, "{")
	for found {
		var placeholder, between string
		placeholder, rest, _ = strings.Cut(rest, "}")
		between, rest, found = strings.Cut(rest, "{")
		path += values[placeholder] + between
	}
	if !filepath.IsLocal(path) {
		return "", fmt.Errorf("login name %q leads out of %s", user, t.root)
	}
	return path, nil
}

// errNoDomain says that the path needs a domain that the login name lacks.
var errNoDomain = errors.New("the path of the maildir adapter needs a name with a domain; set default_domain, or use {user}")

// maxPart is the longest name in a directory, in octets, of common file systems.
const maxPart = 255

// checkPart says why a part of a login name must not become part of a path. A
// leading dot would reach Maildir++ folders and hidden files.
func checkPart(part string) error {
	switch {
	case part == "":
		return errors.New("is empty")
	case len(part) > maxPart:
		return fmt.Errorf("has more than %d octets", maxPart)
	case part[0] == '.':
		return errors.New("begins with a dot")
	case strings.ContainsRune(part, '/'):
		return errors.New("holds a slash")
	case strings.ContainsFunc(part, isControl):
		return errors.New("holds a control character")
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// folderName returns the name of a folder in a Maildir++, ".A.B" for a folder typed
// as A/B or A.B, and "" for the Maildir itself. A leading INBOX, in any case, is the
// Maildir. Its directory has one of the name's spellings.
func folderName(typed string) (string, error) {
	name, err := foldername.Typed(typed)
	if err != nil || name == "" {
		return "", err
	}
	levels := strings.Split(strings.ReplaceAll(name, "/", "."), ".")
	if foldername.IsInbox(levels[0]) {
		levels = levels[1:]
	}
	if len(levels) == 0 {
		return "", nil
	}
	name = "." + strings.Join(levels, ".")
	if len(foldername.Encode(name)) > maxPart {
		return "", fmt.Errorf("folder %q has more than %d octets", typed, maxPart-1)
	}
	return name, nil
}

// spellings are how a folder's directory may be called: in modified UTF-7, as
// Maildir++ has it, or in UTF-8, as Dovecot may be told to.
func spellings(name string) []string { return slices.Compact([]string{foldername.Encode(name), name}) }
