package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"pop3gw/gateway"
)

// verifier checks passwords, a bounded number of costly ones at a time.
type verifier struct {
	memory *memory
	queue  *queue
	seed   maphash.Seed // picks stand-ins
}

func newVerifier(maxHashing int, memory *memory) *verifier {
	return &verifier{memory: memory, queue: newQueue(maxHashing), seed: maphash.MakeSeed()}
}

// verify reports whether password is the one of s, the secret of the user name.
// An error is a *gateway.Error: ctx ended while others were being checked.
func (v *verifier) verify(ctx context.Context, name string, s *secret, password []byte) (bool, error) {
	if !s.costly {
		return v.compute(ctx, name, s, password)
	}
	mark := v.memory.mark(name, s.stored, password)
	if v.memory.knows(mark) {
		return true, nil
	}
	right, err := v.compute(ctx, name, s, password)
	if right {
		v.memory.add(mark)
	}
	return right, err
}

// compute is verify without the memory.
func (v *verifier) compute(ctx context.Context, name string, s *secret, password []byte) (bool, error) {
	// POP3 and PLAIN cannot carry an honest password with NUL, and crypt(3)
	// would compare only what stands before it.
	if len(password) == 0 || len(password) > maxPassword || bytes.IndexByte(password, 0) >= 0 {
		return false, nil
	}
	if s.costly {
		release, err := v.slot(ctx, name)
		if err != nil {
			return false, err
		}
		defer release()
	}
	return s.match(password), nil
}

// slot waits until another costly check may run. release ends it.
func (v *verifier) slot(ctx context.Context, name string) (release func(), err error) {
	release, err = v.queue.enter(ctx)
	if err != nil {
		return nil, gateway.Unavailable("too many logins at a time, try again later",
			fmt.Errorf("the password of %q: %w: %w", name, errTooMany, err))
	}
	return release, nil
}

var errTooMany = errors.New("it waited too long for other passwords to be checked: " +
	"use cheaper hashes or limit connections")

// standIn spends the time that checking the password of an existing user would
// take, so that a stranger cannot tell which names exist. Where users have
// hashes of several kinds, each absent name has its own kind, always the same.
// The memory is left out: it would tell a password that fits the stand-in.
func (v *verifier) standIn(ctx context.Context, name string, kinds []*secret, password []byte) error {
	if len(kinds) == 0 {
		return nil
	}
	i := maphash.String(v.seed, name) % uint64(len(kinds))
	_, err := v.compute(ctx, name, kinds[i], password)
	return err
}

// kindsOf appends to kinds one secret of each kind in secrets that is not there
// yet.
func kindsOf(kinds []*secret, secrets ...*secret) []*secret {
next:
	for _, s := range secrets {
		for _, k := range kinds {
			if k.kind == s.kind {
				continue next
			}
		}
		kinds = append(kinds, s)
	}
	return kinds
}
