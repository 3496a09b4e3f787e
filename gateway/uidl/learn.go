package uidl

import (
	"context"
	"math"
	"time"

	"pop3gw/gateway/state"
)

const (
	learnMost  = 500              // messages that are learned at a time
	learnDelay = time.Hour        // before the first time of a maildrop with more
	learnPause = time.Minute      // of a maildrop, between two times
	learnAgain = time.Hour        // after a failure
	learnLimit = 10 * time.Second // of a time
	learners   = 2                // at a time, of all maildrops
)

// never is when nothing is left to learn: as long as the process runs, what comes
// is known once it is retrieved.
var never = time.Unix(math.MaxInt32, 0)

// Learner returns what has messages become known that were listed, but that nobody
// has retrieved here: clients have them from the server before, or from a session
// that was lost. It is nil where there are none, as far as is known without a look.
//
// It is to run behind Close and behind the client's answer, beside other sessions of
// the maildrop, and looks at a few hundred messages. ReadHeaders must work until it
// returns, and fail once ctx ends.
func (n *Names) Learner() func(ctx context.Context) {
	if n == nil || n.book == nil || n.drop == nil || n.drop.Len() == 0 {
		return nil
	}
	switch at := n.book.page(n.owner).learned; {
	case at.IsZero() && n.drop.Len() > learnMost:
		// Not all of them at a start, when everybody logs in.
		n.book.setLearned(n.owner, time.Now().Add(learnDelay))
		return nil
	case time.Now().Before(at):
		return nil
	}
	if n.book.learning.Add(1) > learners {
		n.book.learning.Add(-1)
		return nil // another time
	}
	n.book.setLearned(n.owner, time.Now().Add(learnPause))
	return func(ctx context.Context) {
		defer n.book.learning.Add(-1)
		ctx, cancel := context.WithTimeout(ctx, learnLimit)
		defer cancel()
		switch whole, err := n.learnListed(ctx); {
		case err != nil:
			n.book.setLearned(n.owner, time.Now().Add(learnAgain))
			n.book.log.Debug("messages that were not retrieved could not be made known by their unique-ids",
				"user", n.owner.user, "folder", n.owner.folder, "error", err)
		case whole:
			n.book.setLearned(n.owner, never)
		}
	}
}

// learnListed has some messages become known that are not, and reports whether
// these were all.
func (n *Names) learnListed(ctx context.Context) (whole bool, err error) {
	all, _, err := n.book.known(ctx, n.owner)
	if err != nil {
		return false, err
	}
	names := make(map[string]struct{}, len(all))
	for _, k := range all {
		names[k.uid] = struct{}{}
	}
	var want []int
	for i := range n.drop.Len() {
		_, gone := n.removed[i]
		if _, ok := names[string(n.Append(nil, i))]; ok || gone {
			continue
		}
		if want = append(want, i); len(want) > learnMost {
			break
		}
	}
	whole = len(want) <= learnMost
	messages, err := n.look(ctx, want[:min(len(want), learnMost)])
	if err != nil || len(messages) == 0 {
		return whole, err
	}
	added := make([]known, len(messages))
	for k, l := range messages {
		added[k] = known{l.fingerprint, l.size, string(n.Append(nil, l.i))}
	}
	var c state.Change
	if err := n.learn(ctx, added, &c); err != nil {
		return false, err
	}
	return whole, n.book.store.Apply(ctx, n.owner.user, n.owner.folder, c)
}
