package maildir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
)

// infoPrefix stands between a base name and the flags, letters in the order of
// ASCII.
const infoPrefix = ":2,"

// flags returns the message's flags: "FS".
func (m *message) flags() string {
	flags, ok := strings.CutPrefix(m.name[m.baseLen:], infoPrefix)
	if !ok {
		return ""
	}
	return flags
}

// isSeen reports whether somebody has read the message.
func (m *message) isSeen() bool { return strings.ContainsRune(m.flags(), 'S') }

// withFlag adds a flag.
func withFlag(flags string, flag byte) string {
	if strings.IndexByte(flags, flag) >= 0 {
		return flags
	}
	b := append([]byte(flags), flag)
	slices.Sort(b)
	return string(b)
}

// markSeen marks a message as read: its file moves to cur, with the flag S.
func (r *removal) markSeen(i int) (last bool, err error) {
	m := &r.messages[i]
	if m.state == missing {
		return true, nil // it is gone
	}
	if _, ok, err := r.examine(i); !ok {
		return false, err
	}
	if m.in == inCur && m.isSeen() {
		return true, nil
	}
	name := m.base() + infoPrefix + withFlag(m.flags(), 'S')
	err = moveFile(r.folder.fds[m.in], m.name, r.folder.fds[inCur], name)
	if errors.Is(err, fs.ErrExist) { // of a message that shares its base name
		return false, gateway.Unusable("messages cannot be marked as read", err)
	}
	if err != nil {
		return false, changeError(err)
	}
	m.in, m.name = inCur, name
	return true, nil
}

// moveFile renames a file, unless there is one that has the new name.
func moveFile(from int, name string, to int, newName string) error {
	err := retry(func() error { return renameNew(from, name, to, newName) })
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// The file system cannot do that in one step.
	if err := retry(func() error { return unix.Linkat(from, name, to, newName, 0) }); err != nil {
		return err
	}
	return retry(func() error { return unix.Unlinkat(from, name, 0) })
}

// retrieval is a message being read by RETR, where it is to be marked as read
// behind that.
type retrieval struct {
	io.ReadCloser
	d     *maildrop
	i     int
	whole bool
}

func (r *retrieval) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.whole = r.whole || err == io.EOF
	return n, err
}

func (r *retrieval) Close() error {
	err := r.ReadCloser.Close()
	if err == nil && r.whole {
		if r.d.retrieved == nil {
			r.d.retrieved = make(map[int]bool)
		}
		r.d.retrieved[r.i] = true
	}
	return err
}

// markRetrieved marks the messages that were retrieved as read, if that is wanted.
func (d *maildrop) markRetrieved(ctx context.Context) error {
	d.all()
	r := removal{maildrop: d, doing: "marking as read", act: (*removal).markSeen}
	r.run(ctx, slices.Sorted(maps.Keys(d.retrieved)))
	d.retrieved = nil
	return errors.Join(r.errs...)
}
