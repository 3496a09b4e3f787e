package imap

import (
	"slices"
	"sync"
)

// maxCorrections bounds what is remembered, in messages of all mailboxes: some
// megabytes.
const maxCorrections = 100_000

// corrections are the sizes of messages that a server is wrong about, such as
// those whose last line has no end, or all of some Exchange servers. They are
// known once a message was read, and remembered while the process runs; without
// them a size is wrong until the message is read again. The zero value is empty.
type corrections struct {
	mu        sync.Mutex
	mailboxes map[string]*corrected
	n         int // messages in all
}

// corrected are the sizes in octets of one mailbox, by UID.
type corrected struct {
	uidValidity uint32
	sizes       map[uint32]int64
}

func (c *corrections) add(mailbox string, uidValidity, uid uint32, octets int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n >= maxCorrections || c.mailboxes == nil {
		c.mailboxes, c.n = make(map[string]*corrected), 0
	}
	m := c.mailboxes[mailbox]
	if m == nil || m.uidValidity != uidValidity {
		if m != nil {
			c.n -= len(m.sizes)
		}
		m = &corrected{uidValidity: uidValidity, sizes: make(map[uint32]int64)}
		c.mailboxes[mailbox] = m
	}
	before := len(m.sizes)
	m.sizes[uid] = octets
	c.n += len(m.sizes) - before
}

// apply corrects a listing of the mailbox, and forgets the messages that are
// not in it any more.
func (c *corrections) apply(mailbox string, uidValidity uint32, l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.mailboxes[mailbox]
	if m == nil {
		return
	}
	if m.uidValidity != uidValidity {
		c.n -= len(m.sizes)
		delete(c.mailboxes, mailbox)
		return
	}
	for uid, octets := range m.sizes {
		if i, ok := slices.BinarySearch(l.uids, uid); ok {
			l.setSize(i, octets)
		} else {
			delete(m.sizes, uid)
			c.n--
		}
	}
}
