package gateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Retrievals remember, across sessions, when messages were first retrieved. It is
// safe for concurrent use. maildrop names one, message is a message's name in it.
type Retrievals interface {
	// Mark notes that messages were retrieved. An earlier mark stays.
	Mark(ctx context.Context, maildrop string, at time.Time, messages ...[]byte) error
	// Before returns the messages that were retrieved before t, the first ones, most
	// of them at most.
	Before(ctx context.Context, maildrop string, t time.Time, most int) ([][]byte, error)
	// Forget takes marks off.
	Forget(ctx context.Context, maildrop string, messages ...[]byte) error
}

// ExpiryTeller is an Accounts that knows when messages expire. least is the shortest
// Policy.ExpireAfter of all users, not above 0 where no message ever does, and
// varies says that not all have the same.
type ExpiryTeller interface {
	Expiry() (least Age, varies bool)
}

// maxExpired bounds what one session looks at. More of it goes in the next ones.
const maxExpired = 10_000

// expires reports whether messages of this session's maildrop expire.
func (s *session) expires() bool { return s.server.Retrieved != nil && s.policy.ExpireAfter > 0 }

// retrievedName is the name of message i among the retrieved: its unique-id and
// size. A store that uses unique-ids again, under another UIDVALIDITY, must not
// have a message expire that nobody has read. The size is what the next session
// will have for it: not what RETR has found out, where the store is not told.
func (s *session) retrievedName(i int) []byte {
	name := append(s.drop.maildrop.AppendUID(nil, i), ' ')
	size := s.drop.size(i)
	if s.sizeCorrecter() == nil {
		size = s.drop.maildrop.Size(i)
	}
	return strconv.AppendInt(name, size, 10)
}

// expired returns the messages that were retrieved in an earlier session, so long
// ago that they are to go, and that the client did not mark. Where that cannot be
// known none is.
func (s *session) expired(ctx context.Context) []int {
	before, aged := s.policy.ExpireAfter.Before(time.Now())
	if !s.expires() || !aged {
		return nil
	}
	names, err := s.server.Retrieved.Before(ctx, s.retrievals, before, maxExpired)
	if err != nil {
		s.log.Error("it is not known which messages have expired, none is removed", "user", s.login, "error", err)
		return nil
	}
	if len(names) == 0 {
		return nil
	}
	old := make(map[string]bool, len(names))
	for _, name := range names {
		old[string(name)] = true
	}
	var expired []int
	for i := range s.drop.maildrop.Len() {
		name := string(s.retrievedName(i))
		if !old[name] {
			continue
		}
		delete(old, name)
		if !s.drop.isMarked(i) {
			expired = append(expired, i)
		}
	}
	// The others are gone, or hidden: should they be shown again they count as new.
	s.forget(ctx, old)
	if len(expired) == 0 {
		return nil
	}
	if p, ok := s.drop.maildrop.(DeletePermitter); ok {
		if err := p.PermitDelete(expired[0]); err != nil {
			s.log.Warn("expired messages cannot be removed", "user", s.login, "number", len(expired), "error", err)
			return nil
		}
	}
	return expired
}

func (s *session) forget(ctx context.Context, names map[string]bool) {
	var gone [][]byte
	for name := range names {
		gone = append(gone, []byte(name))
	}
	if err := s.server.Retrieved.Forget(ctx, s.retrievals, gone...); err != nil {
		s.log.Warn("it could not be noted which messages are gone", "user", s.login, "error", err)
	}
}

// noteRetrieved notes what this session has retrieved and left, behind UPDATE: its
// client has said QUIT, and so has it.
func (s *session) noteRetrieved(ctx context.Context, removed map[int]bool) {
	if !s.expires() {
		return
	}
	var names [][]byte
	gone := make(map[string]bool)
	for i := range s.drop.maildrop.Len() {
		if s.drop.isRetrieved(i) && !removed[i] {
			names = append(names, s.retrievedName(i))
		}
	}
	for i := range removed {
		gone[string(s.retrievedName(i))] = true
	}
	if err := s.server.Retrieved.Mark(ctx, s.retrievals, time.Now(), names...); err != nil {
		s.log.Warn("it could not be noted what was retrieved, so that it expires later", "user", s.login, "error", err)
	}
	s.forget(ctx, gone)
}

// capaExpire is the line of CAPA for EXPIRE (RFC 2449 §6.7), or "". Before the login
// it is of all users, behind it of this one. It is not there where no message ever
// expires: what the stores do is not known.
func (s *session) capaExpire() string {
	t, ok := s.server.Accounts.(ExpiryTeller)
	if !ok || s.server.Retrieved == nil {
		return ""
	}
	least, varies := t.Expiry()
	switch {
	case least <= 0:
		return ""
	case s.drop == nil && varies:
		return fmt.Sprintf("EXPIRE %d USER\r\n", days(least))
	case s.drop == nil:
		return fmt.Sprintf("EXPIRE %d\r\n", days(least))
	case s.policy.ExpireAfter <= 0:
		return "EXPIRE NEVER\r\n"
	}
	return fmt.Sprintf("EXPIRE %d\r\n", days(s.policy.ExpireAfter))
}

// days are the whole days of a.
func days(a Age) int { return int(time.Duration(a) / day) }

// joined returns the members of both, which are ascending and have none in common.
func joined(a, b []int) []int {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return all
}
