package imap

// bitset is a set of indexes.
type bitset []uint64

func (b *bitset) add(i int) {
	for len(*b) <= i/64 {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bitset) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// members returns the indexes in the set, ascending.
func (b bitset) members() []int {
	var members []int
	for i := range len(b) * 64 {
		if b.has(i) {
			members = append(members, i)
		}
	}
	return members
}
