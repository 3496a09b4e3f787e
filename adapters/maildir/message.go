package maildir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// message is a file of the listing. A maildrop may have 100,000 of them, so it
// stays small.
type message struct {
	name      string // file name, as last seen
	delivered int64  // microseconds since 1970, from the name
	octets    int64  // size as RETR sends it; the file's own if unreadable
	file      identity
	baseLen   uint16 // octets of name that are the base name
	in        subdir
	state     state
	shared    bool // another file of the listing has its base name
	duplicate bool // such a file is before it in the listing
	fresh     bool // the file was changed just before it was counted, and perhaps after
	suspect   bool // the file called name is not, or no longer, this message
}

// state is what is known of a message's file.
type state uint8

const (
	unmeasured state = iota
	presumed         // file and octets are what they were, if the file is the same
	missing          // no file has the name any more
	foreign          // what has the name is no regular file
	readable
	unreadable // listed, and RETR will say so
)

func newMessage(in subdir, name string) message {
	base := baseName(name)
	return message{name: name, in: in, baseLen: uint16(len(base)), delivered: deliveryTime(base)}
}

func (m *message) base() string { return m.name[:m.baseLen] }

// compareBase orders messages by time of delivery, then by base name.
func compareBase(a, b *message) int {
	return cmp.Or(cmp.Compare(a.delivered, b.delivered), strings.Compare(a.base(), b.base()))
}

// compare is the order of a maildrop. Inodes settle the order of files that
// share a base name, since they stay when files are renamed.
func compare(a, b message) int {
	return cmp.Or(compareBase(&a, &b), cmp.Compare(a.file.inode, b.file.inode))
}

// identity tells whether a file is the one that was listed.
type identity struct {
	inode    uint64
	size     int64 // octets of the file
	modified int64 // nanoseconds since 1970
}

func identityOf(st *unix.Stat_t) identity {
	return identity{inode: uint64(st.Ino), size: st.Size, modified: st.Mtim.Nano()}
}

// same tells whether a file of the same base name with the identity other is the
// same message: the inode says so, or, on a file system that invents inodes as
// it goes, the time.
func (id identity) same(other identity) bool {
	return id.size == other.size && (id.inode == other.inode || id.modified == other.modified)
}

// is tells whether a file of m's base name is m's. Files that share a base name
// may be copies, of one size and time, and are told apart by inodes alone.
func (m *message) is(id identity) bool {
	return m.file.same(id) && (!m.shared || m.file.inode == id.inode)
}

// statAt examines the file, not what a link at its place points to.
func statAt(dir int, name string) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

var (
	errNotRegular = errors.New("not a regular file")
	errChanged    = errors.New("the file was changed by another program")
)

// body reads a message's file. It ends with io.EOF only if the file had as many
// octets as when it was opened and was not changed meanwhile. Its descriptor is
// used without an os.File, whose set-up costs more than reading a small message.
type body struct {
	fd      int
	name    string
	dev     uint64
	id      identity // when it was opened
	changed int64    // nanoseconds since 1970: when anything of the file was, by then
	left    int64    // octets not yet read
}

// openBody opens the file called name in the folder.
func (f *folder) openBody(in subdir, name string) (*body, error) {
	fd, err := openat(f.fds[in], name, 0)
	if err == unix.ELOOP || err == unix.ENXIO {
		return nil, fmt.Errorf("%s: %w", name, errNotRegular) // a symbolic link, a socket
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	st, err := fstat(fd)
	if err == nil && !isRegular(&st) {
		err = errNotRegular
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	id := identityOf(&st)
	return &body{fd: fd, name: name, dev: uint64(st.Dev), id: id, changed: st.Ctim.Nano(), left: id.size}, nil
}

func fstat(fd int) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

func (b *body) Read(p []byte) (n int, err error) {
	if b.fd < 0 {
		return 0, os.ErrClosed
	}
	if b.left == 0 {
		return 0, b.end()
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if len(p) == 0 {
		return 0, nil
	}
	err = retry(func() error {
		n, err = unix.Read(b.fd, p)
		return err
	})
	if err != nil {
		return 0, &os.PathError{Op: "read", Path: b.name, Err: err}
	}
	if n == 0 {
		return 0, fmt.Errorf("%s lacks %d octets: %w", b.name, b.left, errChanged)
	}
	b.left -= int64(n)
	return n, nil
}

// end returns io.EOF if the file is as it was when it was opened.
func (b *body) end() error {
	st, err := fstat(b.fd)
	if err != nil {
		return &os.PathError{Op: "stat", Path: b.name, Err: err}
	}
	if identityOf(&st) != b.id {
		return fmt.Errorf("%s: %w", b.name, errChanged)
	}
	return io.EOF
}

func (b *body) Close() error {
	if b.fd < 0 {
		return os.ErrClosed
	}
	err := unix.Close(b.fd)
	b.fd = -1
	return err
}
