package maildir

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"weak"

	"pop3gw/gateway"
)

// arranged are the messages of a folder in the order and with the numbers that
// another program's file gives them. It is shared by sessions, and never changed.
type arranged struct {
	file     fileVersion
	of       weak.Pointer[listing] // what was arranged, and
	shown    []int32               // which messages of it; nil for all
	validity uint32
	order    []int32 // message by its number less 1
	numbers  packedNumbers
	unique   bool // no two have the same UID, and none a unique-id of its own
	whole    bool // all have a number, or are known by their file names
	octets   int  // that it takes up in memory, about
}

// arrangements remembers them by path of the folder, and forgets some when they
// take up too much. The zero value is empty, and safe for concurrent use.
type arrangements struct {
	mu     sync.Mutex
	byPath map[string]*arranged
	octets int
}

func (s *arrangements) get(path string) *arranged {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[path]
}

func (s *arrangements) put(path string, a *arranged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byPath == nil {
		s.byPath = make(map[string]*arranged)
	}
	if old := s.byPath[path]; old != nil {
		s.octets -= old.octets
	}
	s.byPath[path] = a
	s.octets += a.octets
	for other, old := range s.byPath { // in no order, which will do
		if s.octets <= maxRemembered/2 {
			break
		}
		if other != path {
			s.octets -= old.octets
			delete(s.byPath, other)
		}
	}
}

// arrange arranges the messages of d as the file called name says, or returns nil
// where there is none.
func (d *maildrop) arrange(name string, parse parser) (*arranged, error) {
	file, err := d.folder.stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, gateway.Unusable("the list of unique-ids of this maildrop cannot be read", err)
	}
	path := d.folder.path
	if a := d.adapter.arranged.get(path); a != nil && a.file == file && a.of == weak.Make(d.listing) && len(a.order) == d.Len() && slices.Equal(a.shown, d.shown) {
		return a, nil
	}
	n, err := d.readNumbers(name, parse)
	if n == nil || err != nil {
		return nil, err
	}
	a := d.number(n)
	a.file, a.of, a.shown = file, weak.Make(d.listing), d.shown
	d.adapter.arranged.put(path, a)
	return a, nil
}

func (f *folder) stat(name string) (fileVersion, error) {
	st, err := statAt(f.dir, name)
	if err != nil {
		return fileVersion{}, err
	}
	return versionOf(&st), nil
}

// number gives the messages of d their numbers.
func (d *maildrop) number(n *numbers) *arranged {
	count := d.Len()
	a := &arranged{validity: n.validity, order: make([]int32, count), unique: true, whole: true}
	seen := make(map[uint32]struct{}, count)
	for i := range count {
		a.order[i] = int32(i)
		if d.view(i).duplicate {
			continue
		}
		k := &n.of[i]
		if *k == (number{}) {
			a.whole = false
			continue
		}
		if _, twice := seen[k.uid]; twice || k.pop3 != "" || k.byName {
			a.unique = false
		}
		seen[k.uid] = struct{}{}
	}
	// Those with an order come first, and those without a number last.
	slices.SortStableFunc(a.order, func(i, j int32) int {
		x, y := &n.of[i], &n.of[j]
		return cmp.Or(cmp.Compare(x.order-1, y.order-1), cmp.Compare(x.uid-1, y.uid-1))
	})
	a.numbers = packNumbers(n.of, n.validity)
	a.octets = 256 + 4*(len(a.order)+len(d.shown)) + a.numbers.octets()
	return a
}

// packedNumbers are the numbers of messages. Most have nothing but a UID.
type packedNumbers struct {
	uids     []uint32         // by message; 0 for one in others, or without a number
	validity uint32           // of all in uids
	others   map[int32]number // by message
}

func packNumbers(of []number, validity uint32) packedNumbers {
	p := packedNumbers{make([]uint32, len(of)), validity, make(map[int32]number)}
	for i, k := range of {
		switch k {
		case number{uid: k.uid, validity: validity}:
			p.uids[i] = k.uid
		case number{}:
		default:
			p.others[int32(i)] = k
		}
	}
	return p
}

// at returns the number of message i; zero for none.
func (p *packedNumbers) at(i int) number {
	if uid := p.uids[i]; uid != 0 {
		return number{uid: uid, validity: p.validity}
	}
	return p.others[int32(i)]
}

func (p *packedNumbers) octets() int {
	n := 4*len(p.uids) + 100*len(p.others)
	for _, k := range p.others {
		n += len(k.pop3) + len(k.guid)
	}
	return n
}
