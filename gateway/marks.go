package gateway

import (
	"fmt"
	"strconv"

	"pop3gw/gateway/wire"
)

// snapshot is a maildrop as one session sees it: message numbers, deletion
// marks, and the totals of what is not marked; reset makes it ready. It is the
// only place where a message number n, from 1, becomes an index i, from 0.
type snapshot struct {
	maildrop  Maildrop
	marks     []uint64      // bit i is set when message i is marked
	retrieved []uint64      // bit i is set when message i was sent whole
	sizes     map[int]int64 // octets sent, of messages that Size is wrong about
	count     int           // messages not marked
	octets    int64         // their sizes in all
}

func (s *snapshot) isMarked(i int) bool {
	return s.marks != nil && s.marks[i/64]&(1<<(i%64)) != 0
}

func (s *snapshot) size(i int) int64 {
	if size, ok := s.sizes[i]; ok {
		return size
	}
	return s.maildrop.Size(i)
}

func (s *snapshot) appendSize(dst []byte, i int) []byte { return strconv.AppendInt(dst, s.size(i), 10) }

// parse returns the index of the message whose number is the argument arg.
func (s *snapshot) parse(arg []byte) (i int, err error) {
	n, err := wire.ParseNumber(arg)
	if err == wire.ErrNumberRange || err == nil && n > s.maildrop.Len() {
		return 0, &Error{Text: "no such message"}
	}
	if err != nil {
		return 0, badCommand(err.Error())
	}
	if n == 0 {
		return 0, &Error{Text: "message numbers begin with 1"}
	}
	if s.isMarked(n - 1) {
		return 0, &Error{Text: "message is marked as deleted"}
	}
	return n - 1, nil
}

// totals says how much is not marked, in words for the client.
func (s *snapshot) totals() string { return fmt.Sprintf("%d messages (%d octets)", s.count, s.octets) }

// unmarked yields the index of each message without a mark.
func (s *snapshot) unmarked(yield func(i int) bool) {
	for i := range s.maildrop.Len() {
		if !s.isMarked(i) && !yield(i) {
			return
		}
	}
}

// number is the message number of index i.
func (s *snapshot) number(i int) int { return i + 1 }

// mark sets the deletion mark of message i, which has none.
func (s *snapshot) mark(i int) {
	if s.marks == nil {
		s.marks = make([]uint64, (s.maildrop.Len()+63)/64)
	}
	s.marks[i/64] |= 1 << (i % 64)
	s.count--
	s.octets -= s.size(i)
}

// marked returns the indexes of the marked messages, ascending.
func (s *snapshot) marked() []int {
	if s.marks == nil {
		return nil
	}
	var marked []int
	for i := range s.maildrop.Len() {
		if s.isMarked(i) {
			marked = append(marked, i)
		}
	}
	return marked
}

// reset takes all marks off.
func (s *snapshot) reset() {
	s.marks = nil
	s.count = s.maildrop.Len()
	s.octets = 0
	for i := range s.count {
		s.octets += s.size(i)
	}
}

// correct takes note of how many octets message i, which is not marked, had
// when it was sent. A store may be wrong before it has read a message.
func (s *snapshot) correct(i int, octets int64) {
	if octets == s.size(i) {
		return
	}
	s.octets += octets - s.size(i)
	if s.sizes == nil {
		s.sizes = make(map[int]int64)
	}
	s.sizes[i] = octets
}

// noteRetrieved notes that message i was sent whole.
func (s *snapshot) noteRetrieved(i int) {
	if s.retrieved == nil {
		s.retrieved = make([]uint64, (s.maildrop.Len()+63)/64)
	}
	s.retrieved[i/64] |= 1 << (i % 64)
}

func (s *snapshot) isRetrieved(i int) bool {
	return s.retrieved != nil && s.retrieved[i/64]&(1<<(i%64)) != 0
}
