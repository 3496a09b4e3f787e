package uidl

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxLength is how long a unique-id may be, in octets (RFC 1939 §7).
	MaxLength = 70

	hashPrefix = "sha256-" // begins a unique-id that stands for one that is not legal
	hashOctets = 24        // of the digest; written as 48 hexadecimal digits
)

// Form is how unique-ids are made. The zero value is of no use.
type Form struct {
	text  string // the template, in its normal form
	parts []part
	has   map[byte]bool // by variable
}

// part is a piece of a template: a text, or a variable.
type part struct {
	text     string
	variable byte // 0 for text
	width    int
	zeros    bool   // fill up with zeros, not spaces (which no unique-id has)
	hex      bool   // a number in hexadecimal digits, of lower case
	then     string // what is done to it after that, in order: L, U (case), M (MD5)
}

// Variables of a template, as Dovecot calls them.
const (
	UID      = 'u' // number of a message in its mailbox
	Validity = 'v' // UIDVALIDITY of the mailbox
	File     = 'f' // base name of the file
	GUID     = 'g' // a message's identity across mailboxes
	MD5      = 'm' // of a header, as Dovecot has it for mbox
	gmailID  = 'G' // X-GM-MSGID; in no template of a user
)

// Values are what a form makes a unique-id of. Those that the form does not have
// need not be set.
type Values struct {
	UID, Validity uint32
	File          string
	GUID          string
	MD5           string
	Gmail         uint64
}

// presets are names for templates, by what stood there before.
var presets = map[string]string{
	"dovecot":  "%08Xu%08Xv",
	"courier":  "UID%u-%v",
	"cyrus":    "%v.%u",
	"uw":       "%08Xv%08Xu",
	"qmail":    "%f",
	"tpop3d":   "%Mf",
	"stalwart": "%v%u",
	"gmail":    "GmailId%XG",
}

// Presets are the names that Parse takes, in the order of the documentation.
var Presets = []string{"dovecot", "courier", "cyrus", "uw", "qmail", "tpop3d", "stalwart", "gmail"}

// Parse returns the form with the name of a preset, or with a template in
// Dovecot's language: %u, %v, %f, %g or %m, where a zero and a width, and the
// letters X (hexadecimal), L and U (case) or M (MD5), which act in their order, may
// stand behind the %; or the longer %{uid | hex(8)} of Dovecot 2.4. allowed are the variables that the
// store has.
func Parse(text, allowed string) (Form, error) {
	template, preset := presets[text]
	if !preset {
		template = text
		if !strings.Contains(text, "%") {
			return Form{}, fmt.Errorf(`found %q; allowed are "%s", and templates such as "%%08Xu%%08Xv"`, text, strings.Join(Presets, `", "`))
		}
	}
	parts, err := parseTemplate(template, preset)
	if err != nil {
		return Form{}, fmt.Errorf("found %q; %w", text, err)
	}
	f := Form{parts: parts, has: make(map[byte]bool)}
	for _, p := range parts {
		if p.variable == 0 {
			continue
		}
		if p.variable == MD5 && !strings.ContainsRune(allowed, MD5) {
			return Form{}, fmt.Errorf("found %q; %%m is a digest of headers that Dovecot has for mbox alone; "+
				"set another form and bring the unique-ids in by a list (pop3gw uidl import, docs/migration.md)", text)
		}
		if !strings.ContainsRune(allowed, rune(p.variable)) {
			return Form{}, fmt.Errorf("found %q, which needs %s; %s", text, meaning(p.variable), elsewhere(p.variable))
		}
		f.has[p.variable] = true
	}
	if !f.has[UID] && !f.has[File] && !f.has[GUID] && !f.has[MD5] && !f.has[gmailID] {
		return Form{}, fmt.Errorf("found %q, which gives all messages one name; a template needs one of %%u, %%f, %%g", text)
	}
	f.text = canonical(parts)
	return f, nil
}

func meaning(variable byte) string {
	switch variable {
	case UID, Validity:
		return "numbers of messages"
	case File:
		return "file names"
	case GUID:
		return "GUIDs of messages"
	}
	return "message ids of Gmail"
}

func elsewhere(variable byte) string {
	if variable == gmailID {
		return "only adapters of type \"imap\" have them"
	}
	return "only adapters of type \"maildir\" have them"
}

// String returns the template in a form of its own: two forms that make the same
// unique-ids have, as a rule, the same.
func (f *Form) String() string { return f.text }

// Has reports whether the form is made of a variable.
func (f *Form) Has(variable byte) bool { return f.has[variable] }

// HasGmail reports whether the form is made of X-GM-MSGID.
func (f *Form) HasGmail() bool { return f.has[gmailID] }

// Append appends the unique-id that v makes. It may not be legal: see AppendLegal.
func (f *Form) Append(dst []byte, v *Values) []byte {
	for i := range f.parts {
		p := &f.parts[i]
		start := len(dst)
		switch p.variable {
		case 0:
			dst = append(dst, p.text...)
			continue
		case UID:
			dst = p.number(dst, uint64(v.UID))
		case Validity:
			dst = p.number(dst, uint64(v.Validity))
		case gmailID:
			dst = p.number(dst, v.Gmail)
		case File:
			dst = append(dst, v.File...)
		case GUID:
			dst = append(dst, v.GUID...)
		case MD5:
			dst = append(dst, v.MD5...)
		}
		for _, do := range []byte(p.then) {
			if do == 'M' {
				sum := md5.Sum(dst[start:])
				dst = hex.AppendEncode(dst[:start], sum[:])
			} else {
				changeCase(dst[start:], do == 'U')
			}
		}
	}
	return dst
}

func (p *part) number(dst []byte, n uint64) []byte {
	base := 10
	if p.hex {
		base = 16
	}
	start := len(dst)
	dst = strconv.AppendUint(dst, n, base)
	if missing := p.width - (len(dst) - start); missing > 0 && p.zeros {
		for range missing {
			dst = append(dst, '0')
		}
		copy(dst[start+missing:], dst[start:])
		for i := range missing {
			dst[start+i] = '0'
		}
	}
	return dst
}

func changeCase(b []byte, upper bool) {
	for i, c := range b {
		switch {
		case upper && c >= 'a' && c <= 'z':
			b[i] = c - 'a' + 'A'
		case !upper && c >= 'A' && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
	}
}

// Legal reports whether a unique-id has 1 to 70 characters from 0x21 to 0x7E.
func Legal[T string | []byte](id T) bool {
	if len(id) < 1 || len(id) > MaxLength {
		return false
	}
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return false
		}
	}
	return true
}

// AppendLegal makes dst[start:], a unique-id, legal: one that is not is replaced by
// its hash. So is one that looks like such a hash, so that no two have the same.
func AppendLegal(dst []byte, start int) []byte {
	if id := dst[start:]; Legal(id) && !bytes.HasPrefix(id, []byte(hashPrefix)) {
		return dst
	}
	return AppendHash(dst[:start], dst[start:])
}

// AppendHash appends a legal unique-id that stands for any octets.
func AppendHash(dst, of []byte) []byte {
	sum := sha256.Sum256(of)
	return hex.AppendEncode(append(dst, hashPrefix...), sum[:hashOctets])
}

var errTemplate = errors.New("a % in a template is followed by u, v, f, g, m or %, with 0, a width, X, L, U or M between, as in %08Xu, or by {uid | hex(8)}")

func parseTemplate(s string, preset bool) (parts []part, err error) {
	text := func(t string) {
		if n := len(parts); n > 0 && parts[n-1].variable == 0 {
			parts[n-1].text += t
		} else {
			parts = append(parts, part{text: t})
		}
	}
	for s != "" {
		before, rest, found := strings.Cut(s, "%")
		if before != "" {
			text(before)
		}
		if !found {
			break
		}
		if strings.HasPrefix(rest, "%") {
			text("%")
			s = rest[1:]
			continue
		}
		var p part
		if strings.HasPrefix(rest, "{") {
			p, s, err = parseLong(rest[1:])
		} else {
			p, s, err = parseShort(rest, preset)
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	for _, p := range parts {
		if p.variable == 0 && !Legal(p.text) {
			return nil, fmt.Errorf("%q cannot be part of a unique-id, which has 1 to 70 characters from ! to ~", p.text)
		}
	}
	return parts, nil
}

// maxWidth is more than any number has digits.
const maxWidth = 32

// parseShort reads what is behind the % of "%08Xu".
func parseShort(s string, preset bool) (p part, rest string, err error) {
	i := 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		if i == 0 && s[0] == '0' {
			p.zeros = true
		}
		if p.width = p.width*10 + int(s[i]-'0'); p.width > maxWidth {
			return p, "", errTemplate
		}
	}
	for ; i < len(s); i++ {
		switch s[i] {
		case 'X':
			p.hex, p.then = true, "" // decimal digits have no case
		case 'L', 'U', 'M':
			if p.then += s[i : i+1]; len(p.then) > 8 {
				return p, "", errTemplate
			}
		default:
			if strings.IndexByte("uvfgm", s[i]) < 0 && !(preset && s[i] == gmailID) {
				return p, "", errTemplate
			}
			p.variable = s[i]
			return p, s[i+1:], p.check()
		}
	}
	return p, "", errTemplate
}

var longNames = map[string]byte{"uid": UID, "uidvalidity": Validity, "filename": File, "guid": GUID, "md5": MD5}

// parseLong reads what is behind the "%{" of "%{uid | hex(8)}".
func parseLong(s string) (p part, rest string, err error) {
	inside, rest, found := strings.Cut(s, "}")
	if !found {
		return p, "", errTemplate
	}
	name, filters, _ := strings.Cut(inside, "|")
	p.variable = longNames[strings.TrimSpace(name)]
	if p.variable == 0 {
		return p, "", errTemplate
	}
	for filter := range strings.SplitSeq(filters, "|") {
		switch filter = strings.TrimSpace(filter); {
		case filter == "":
		case filter == "lower":
			p.then += "L"
		case filter == "upper":
			p.then += "U"
		case filter == "md5":
			p.then += "M"
		case filter == "hexlify" && strings.HasSuffix(p.then, "M"):
		case filter == "hex":
			p.hex, p.then = true, ""
		case strings.HasPrefix(filter, "hex(") && strings.HasSuffix(filter, ")"):
			width, err := strconv.Atoi(filter[4 : len(filter)-1])
			if err != nil || width < 1 || width > maxWidth {
				return p, "", errTemplate
			}
			p.hex, p.zeros, p.width, p.then = true, true, width, ""
		default:
			return p, "", errTemplate
		}
	}
	return p, rest, p.check()
}

// check refuses what has no sense, rather than to let it have one of its own.
func (p *part) check() error {
	number := p.variable == UID || p.variable == Validity || p.variable == gmailID
	switch {
	case number && strings.Contains(p.then, "M"), !number && (p.hex || p.width > 0), p.width > 0 && !p.zeros, len(p.then) > 8:
		return errTemplate
	}
	return nil
}

func canonical(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		if p.variable == 0 {
			b.WriteString(strings.ReplaceAll(p.text, "%", "%%"))
			continue
		}
		b.WriteByte('%')
		if p.width > 0 {
			fmt.Fprintf(&b, "0%d", p.width)
		}
		if p.hex {
			b.WriteByte('X')
		}
		b.WriteString(p.then)
		b.WriteByte(p.variable)
	}
	return b.String()
}
