package link

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"pop3gw/gateway/foldername"
)

// Opening is what there is to do before messages can be read. All of it is sent
// at once: servers do one after the other, and where one is refused those that
// need it are as well. Zero fields are left out.
type Opening struct {
	ID         string // parameters of ID (RFC 2971), for which the server needs that; its answer is of no interest
	Login      string // LOGIN or AUTHENTICATE with its arguments, without literals
	Capability bool   // asks for Capabilities
	Mailbox    string // the name of the mailbox to open, in UTF-8
	Write      bool   // by SELECT, not EXAMINE
	Extent     bool   // asks for the Extent of the mailbox, for which the server needs ESEARCH

	// Responses are what Login answers the server's challenges with, one by one,
	// as they are sent. A further challenge cancels the login.
	Responses []string

	// Patience is the longest wait for the beginning of an answer, if it is
	// less than Limits.Operation.
	Patience time.Duration
}

// Opened is how a server answered an Opening. Errors are *imap.Error, nil for OK.
type Opened struct {
	Login    error
	LoggedIn bool // the login was answered with OK
	Told     bool // and told capabilities

	// Challenge is the last one that the login met, decoded and cut short; "" is
	// none.
	Challenge string

	Select   error
	Selected bool // opening the mailbox was answered, with OK or not
	Mailbox  Mailbox
	Searched bool    // the search for Extent was answered, with OK or not
	Extent   *Extent // nil where the server did not tell
}

// Mailbox is what a server tells of a mailbox that it opens.
type Mailbox struct {
	UIDValidity   uint32
	UIDNext       uint32 // 0 where it is not told
	Messages      uint32 // EXISTS
	Counted       bool   // EXISTS was told
	HighestModSeq uint64 // 0 where it is not told
	ReadOnly      bool
}

// Extent is what a search for all messages of a mailbox finds (RFC 4731).
type Extent struct {
	Count    uint32
	Min, Max uint32 // UIDs; 0 where there is no message
}

// probeAfter is how long a server may take to answer what was sent along with a
// login, before it is asked whether it got that.
const probeAfter = 5 * time.Second

// Open sends an Opening and waits for the answers; behind a refused login those
// are of no interest, and the connection is at its end. The error is why the
// connection broke.
//
// Some proxies forget what they have read behind the login (nginx before 1.21).
// The connection is of use then, and Opened.Selected false.
func (c *Conn) Open(ctx context.Context, o Opening) (Opened, error) {
	done, err := c.begin(ctx)
	if err != nil {
		return Opened{}, err
	}
	defer done()
	if err := c.takeStream(); err != nil {
		return Opened{}, err
	}
	defer c.leaveStream()
	f := flight{c: c, answers: o.Responses}
	f.send(o)
	c.wire.bound(min(cmp.Or(o.Patience, c.limits.Operation), c.limits.Operation))
	err = f.read()
	return f.opened, err
}

// flight is an Opening under way.
type flight struct {
	c       *Conn
	opened  Opened
	answers []string  // to challenges
	pending []pending // what is still to be answered, as it was sent
	probe   *time.Timer
}

type pending struct {
	kind kind
	tag  string
}

// kind is what a command of a flight is for.
type kind int

const (
	toLogIn kind = iota
	toIdentify
	toLearn // the capabilities
	toSelect
	toSearch
	toProbe
)

// add appends a command to a batch.
func (f *flight) add(batch []byte, kind kind, text string) []byte {
	tag := f.expect(kind)
	return fmt.Appendf(batch, "%s %s\r\n", tag, text)
}

// expect returns the tag of a command that is going to be sent.
func (f *flight) expect(kind kind) string {
	f.c.tag++
	tag := "F" + strconv.Itoa(f.c.tag)
	f.pending = append(f.pending, pending{kind, tag})
	return tag
}

func (f *flight) send(o Opening) {
	var batch []byte
	if o.ID != "" {
		batch = f.add(batch, toIdentify, "ID "+o.ID)
	}
	if o.Login != "" {
		f.c.setCapabilities(nil) // they may be others behind it
		batch = f.add(batch, toLogIn, o.Login)
	}
	if o.Capability {
		batch = f.add(batch, toLearn, "CAPABILITY")
	}
	if o.Mailbox != "" {
		verb := "EXAMINE "
		if o.Write {
			verb = "SELECT "
		}
		name, _ := Quote(foldername.Encode(o.Mailbox)) // every server understands that
		batch = f.add(batch, toSelect, verb+name)
	}
	if o.Extent {
		batch = f.add(batch, toSearch, "UID SEARCH RETURN (MIN MAX COUNT) ALL")
	}
	f.c.writing.Lock()
	defer f.c.writing.Unlock()
	f.c.write(batch)
}

// read reads until all is answered, or what comes is of no interest.
func (f *flight) read() error {
	defer f.stopProbe()
	for len(f.pending) > 0 {
		line, err := f.c.line()
		if err != nil {
			return err
		}
		f.c.wire.bound(f.c.limits.Operation)
		tag, rest := word(line)
		i := slices.IndexFunc(f.pending, func(p pending) bool { return p.tag == string(tag) })
		if i < 0 {
			if string(tag) == "*" && f.data(rest) || string(tag) == "+" && f.challenged(rest) {
				continue
			}
			if err := f.c.relay(line); err != nil {
				return err
			}
			continue
		}
		st := parseStatus(rest)
		answer, ok := f.c.completion(st)
		if !ok {
			return f.c.fail(errNeither)
		}
		kind := f.pending[i].kind
		// A server that took the next command for the answer to a challenge is
		// not to alarm anybody with that.
		if kind != toLogIn || f.opened.Challenge == "" || len(f.pending) == 1 {
			f.c.noteStatus(st)
		}
		f.pending = slices.Delete(f.pending, i, i+1)
		switch f.stopProbe(); {
		case kind == toLogIn:
			f.opened.Login, f.opened.LoggedIn, f.opened.Told = answer, answer == nil, f.c.Capabilities() != nil
			if answer != nil {
				if len(f.pending) > 0 {
					f.c.fail(errUnfinished)
				}
				return nil
			}
			f.startProbe()
		case kind == toSelect:
			f.opened.Select, f.opened.Selected = answer, true
			f.opened.Mailbox.ReadOnly = string(st.code) == "READ-ONLY"
		case kind == toSearch:
			f.opened.Searched = true
		case kind == toProbe: // so nothing else will be
			return nil
		}
	}
	return nil
}

// maxChallenge bounds how much of a challenge is kept, in octets.
const maxChallenge = 1000

// challenged answers a challenge to the login, and reports whether there was one.
func (f *flight) challenged(challenge []byte) bool {
	if !f.awaits(toLogIn) || f.answers == nil {
		return false
	}
	answer := "*" // RFC 9051 §6.2.2
	if len(f.answers) > 0 {
		answer = f.answers[0]
		f.answers = f.answers[1:]
	} else {
		f.answers = nil // and that is enough
	}
	decoded, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(challenge)))
	if err == nil && len(decoded) > 0 {
		f.opened.Challenge = f.c.told(string(decoded[:min(len(decoded), maxChallenge)]))
	}
	f.c.writing.Lock()
	defer f.c.writing.Unlock()
	f.c.write([]byte(answer + "\r\n"))
	return true
}

// startProbe has the server asked, after a while, whether it got what it has not
// answered: it would have to answer that first.
func (f *flight) startProbe() {
	if len(f.pending) == 0 {
		return
	}
	tag := f.expect(toProbe)
	f.probe = time.AfterFunc(probeAfter, func() { f.c.send([]byte(tag), "NOOP") })
}

// stopProbe takes the probe back, unless it has been sent.
func (f *flight) stopProbe() {
	if f.probe != nil && f.probe.Stop() {
		f.pending = slices.DeleteFunc(f.pending, func(p pending) bool { return p.kind == toProbe })
	}
	f.probe = nil
}

func (f *flight) awaits(kind kind) bool {
	return slices.ContainsFunc(f.pending, func(p pending) bool { return p.kind == kind })
}

// data notes what untagged data say of the mailbox, and reports whether nobody
// else wants to know. Data that a server had sent before, of a mailbox that was
// open until now, come first: what is said last holds.
func (f *flight) data(data []byte) (taken bool) {
	what, rest := word(data)
	opening := f.awaits(toSelect) && !f.awaits(toLogIn)
	m := &f.opened.Mailbox
	if n, ok := number(what); ok {
		if what, _ := word(rest); opening && is(what, "EXISTS") && n <= math.MaxUint32 {
			m.Messages, m.Counted = uint32(n), true
		}
		return false
	}
	switch {
	case is(what, "OK") && opening:
		switch st := parseStatus(data); string(st.code) {
		case "CLOSED": // RFC 9051 §7.1: all that came before was of another mailbox
			*m = Mailbox{}
		case "UIDVALIDITY":
			m.UIDValidity, _ = number32(st.data)
		case "UIDNEXT":
			m.UIDNext, _ = number32(st.data)
		case "HIGHESTMODSEQ":
			n, _ := number(st.data)
			m.HighestModSeq = uint64(n)
		}
	case is(what, "ESEARCH") && f.awaits(toSearch):
		f.extent(rest)
		return true
	}
	return false
}

// extent reads `(TAG "F4") UID MIN 3 MAX 9 COUNT 4`. What is not of that form
// tells nothing.
func (f *flight) extent(data []byte) {
	var e Extent
	var counted, uids bool
	if len(data) > 0 && data[0] == '(' {
		correlator, rest, _ := bytes.Cut(data, []byte(") "))
		_, tag := word(correlator)
		i := slices.IndexFunc(f.pending, func(p pending) bool { return p.kind == toSearch })
		if string(bytes.Trim(tag, `"`)) != f.pending[i].tag {
			return
		}
		data = rest
	}
	for len(data) > 0 {
		var name, value []byte
		if name, data = word(data); is(name, "UID") {
			uids = true
			continue
		}
		value, data = word(data)
		n, ok := number(value)
		if !ok || n > math.MaxUint32 {
			return
		}
		switch {
		case is(name, "MIN"):
			e.Min = uint32(n)
		case is(name, "MAX"):
			e.Max = uint32(n)
		case is(name, "COUNT"):
			e.Count, counted = uint32(n), true
		}
	}
	if counted && (uids || e.Count == 0) {
		f.opened.Extent = &e
	}
}

// Quote returns s as a quoted string of IMAP. ok is false for what only a literal
// can carry.
func Quote(s string) (quoted string, ok bool) {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", false
	}
	return `"` + quoting.Replace(s) + `"`, true
}

var quoting = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
