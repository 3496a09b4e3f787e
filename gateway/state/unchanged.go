package state

import (
	"bytes"
	"os"

	lru "github.com/hashicorp/golang-lru/v2"
)

// rememberedMaildrops bounds what is remembered, some 300 octets each.
const rememberedMaildrops = 10_000

// stamp is the first of the two headers of SQLite's WAL-index, the file by which
// all connections of all processes tell one another what is committed: it holds a
// counter of transactions and checksums, and is another one after each commit
// (https://sqlite.org/walformat.html#the_wal_index_header).
type stamp [48]byte

const stampIsInit = 12 // the octet of isInit, which is 1

// unchanged remembers what Load has found, until anybody commits anything: most
// logins find the file as the one before has left it, and reading these few octets
// costs a thirtieth of a query.
type unchanged struct {
	index *os.File // nil if it is not there: then nothing is remembered
	found *lru.Cache[ownerOf, loaded]
}

type ownerOf struct{ user, folder string }

type loaded struct {
	stamp    stamp // from before it was read
	maildrop Maildrop
	ok       bool
}

// watch returns what nothing is remembered in yet. A connection to the file must be
// open for as long as it is in use: SQLite removes the index with the last one.
func watch(path string) *unchanged {
	index, err := os.Open(path + "-shm")
	if err != nil {
		index = nil // it has another name where the file is a symbolic link
	}
	found, err := lru.New[ownerOf, loaded](rememberedMaildrops)
	if err != nil {
		panic(err) // of a size below 1
	}
	return &unchanged{index, found}
}

func (u *unchanged) close() error {
	if u == nil || u.index == nil {
		return nil
	}
	return u.index.Close()
}

// stamp returns the present one, and whether there is one.
func (u *unchanged) stamp() (s stamp, ok bool) {
	if u.index == nil {
		return s, false
	}
	n, err := u.index.ReadAt(s[:], 0)
	return s, err == nil && n == len(s) && s[stampIsInit] == 1
}

// load is find, whose result is remembered.
func (u *unchanged) load(owner ownerOf, find func() (Maildrop, bool, error)) (Maildrop, bool, error) {
	now, stamped := u.stamp()
	if l, known := u.found.Get(owner); known && stamped && bytes.Equal(l.stamp[:], now[:]) {
		return l.maildrop, l.ok, nil
	}
	m, ok, err := find()
	if err == nil && stamped {
		u.found.Add(owner, loaded{now, m, ok})
	}
	return m, ok, err
}
