package uidl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"pop3gw/gateway/state"
)

// Listed is a message as lists in text have it: a line with the unique-id, the
// Message-ID and the size in octets, with tabs between. Where the Message-ID is
// missing in the message, it is "~" and a fingerprint; the size may be missing.
type Listed struct {
	UID       string
	Reference string // Message-ID, or ~ and a fingerprint
	Size      int64  // -1 for none
}

// Write writes lines for ReadList.
func (l Listed) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s\t%s\t%d\n", l.UID, l.Reference, l.Size)
	return err
}

const (
	maxListed = 1 << 20 // messages in a list
	maxLine   = 8 << 10 // octets of its line
	maxWrong  = 20      // wrong lines after which a list is not read further
)

// ReadList reads a list. Empty lines, and those that begin with #, say nothing.
// name is that of the file, for the errors: one for each wrong line, joined.
func ReadList(r io.Reader, name string) ([]Listed, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	var all []Listed
	var errs []error
	first := make(map[string]int) // line of a unique-id
	n := 0
	for lines.Scan() && len(errs) < maxWrong {
		n++
		line := strings.TrimRight(lines.Text(), "\r")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s:%d: %s", name, n, fmt.Sprintf(format, args...)))
		}
		l, err := parseListed(line)
		if err != nil {
			wrong("%v", err)
			continue
		}
		if before := first[l.UID]; before > 0 {
			wrong("unique-id %q is on line %d already; no two messages of a maildrop have the same", l.UID, before)
			continue
		}
		first[l.UID] = n
		if len(all) == maxListed {
			wrong("more than %d messages", maxListed)
			break
		}
		all = append(all, l)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		errs = append(errs, fmt.Errorf("%s:%d: the line is longer than %d octets", name, n+1, maxLine))
	} else if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	if len(errs) == maxWrong {
		errs = append(errs, fmt.Errorf("%s: there may be more, behind line %d", name, n))
	}
	if len(errs) == 0 && len(all) == 0 {
		errs = append(errs, fmt.Errorf("%s: no message in it; a line is a unique-id, a Message-ID and a size, with tabs between", name))
	}
	return all, errors.Join(errs...)
}

func parseListed(line string) (Listed, error) {
	fields := strings.Split(line, "\t")
	if len(fields) == 1 {
		fields = strings.Fields(line)
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	l := Listed{Size: -1}
	if len(fields) < 2 || len(fields) > 3 {
		return l, fmt.Errorf("found %d fields; a line is a unique-id, a Message-ID and a size, with tabs between", len(fields))
	}
	l.UID, l.Reference = fields[0], fields[1]
	switch {
	case len(l.UID) > MaxLength:
		return l, fmt.Errorf("unique-id %.80q has %d characters; allowed are 1 to %d", l.UID, len(l.UID), MaxLength)
	case !Legal(l.UID):
		return l, fmt.Errorf("unique-id %q has a character that is not allowed, or none at all; allowed are those from ! to ~", l.UID)
	case l.Reference == "":
		return l, errors.New("the Message-ID is missing; leave out messages without one, or list them as docs/migration.md does")
	}
	if len(fields) == 3 && fields[2] != "" {
		size, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || size < 0 {
			return l, fmt.Errorf("found %q for the size; allowed is a number of octets, or nothing", fields[2])
		}
		l.Size = size
	}
	return l, nil
}

// Import keeps a list as known messages of a user's maildrop: those that are there
// at the next login, or come within MatchTime, get the names in it.
func (b *Book) Import(ctx context.Context, user, folder string, list []Listed) error {
	all := make([]known, len(list))
	for i, l := range list {
		all[i] = known{ofReference(l.Reference), l.Size, l.UID}
	}
	until := time.Now().Add(MatchTime)
	return b.store.Apply(ctx, user, folder, state.Change{
		Match: &until,
		Add:   []state.Addition{{Kind: state.KnownChunk, Data: encodeKnown(all)}},
	})
}

// Allow lets the unique-ids of a user's maildrop change, once, at the next login
// that would be refused for it. It reports whether anything is known of the
// maildrop.
func (b *Book) Allow(ctx context.Context, user, folder string) (found bool, err error) {
	if _, found, err = b.store.Load(ctx, user, folder); err != nil || !found {
		return found, err
	}
	allowed := true
	return true, b.store.Apply(ctx, user, folder, state.Change{Allowed: &allowed})
}

// Export calls write with each message of a maildrop that is open, in its order.
func (n *Names) Export(ctx context.Context, write func(Listed) error) error {
	want := make([]int, n.drop.Len())
	references := make([]string, n.drop.Len())
	for i := range want {
		want[i] = i
	}
	err := n.drop.ReadHeaders(ctx, want, func(i int, h *Header) { references[i] = h.Reference() })
	if err != nil {
		return err
	}
	for i, reference := range references {
		if reference == "" {
			continue // it is gone
		}
		if err := write(Listed{string(n.Append(nil, i)), reference, n.drop.Size(i)}); err != nil {
			return err
		}
	}
	return nil
}
