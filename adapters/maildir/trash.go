package maildir

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
)

// defaultTrash is the folder that Maildir++ quotas do not count.
const defaultTrash = "Trash"

// trash is the folder that messages are moved to.
type trash struct {
	name     string // as the policy has it
	path     string // of its cur, for messages
	cur      int    // where messages go: they have been seen by a client
	isSource bool   // it is the maildrop's own folder, so that they go for good
	counted  bool   // quotas count it
}

// moves reports whether messages that a client deletes go to the trash.
func (d *maildrop) moves() bool { return d.policy.OnDelete == gateway.MoveToTrash }

// openTrash opens the trash folder, once. It creates none: a file that is moved
// into a folder that nobody reads is a file lost.
func (d *maildrop) openTrash() error {
	if d.trash != nil {
		return nil
	}
	const none = "there is no trash folder, so messages cannot be removed"
	t := &trash{name: cmp.Or(d.policy.TrashMailbox, defaultTrash)}
	sub, err := folderName(t.name)
	if err != nil || sub == "" {
		return gateway.Unusable(none, fmt.Errorf("trash_mailbox: found %q, which is no name of a folder (%v)", t.name, err))
	}
	t.counted = sub != "."+defaultTrash
	maildir := d.folder.maildirPath()
	dir, path, err := openSubfolder(d.folder.top, sub, maildir)
	t.path = path + "/cur"
	if err == nil {
		defer unix.Close(dir)
		t.cur, err = openDir(dir, "cur", t.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return gateway.Unusable(none, fmt.Errorf("%w; create the folder %s with cur, new and tmp in it, or name another with trash_mailbox", err, path))
	}
	if err != nil {
		return openError(t.path, err)
	}
	st, err := fstat(t.cur)
	own, ownErr := fstat(d.folder.fds[inCur])
	if err := errors.Join(err, ownErr); err != nil {
		unix.Close(t.cur)
		return fmt.Errorf("examining %s: %w", t.path, err)
	}
	t.isSource = st.Dev == own.Dev && st.Ino == own.Ino
	d.trash = t
	return nil
}

func (d *maildrop) closeTrash() {
	if d.trash != nil {
		unix.Close(d.trash.cur)
		d.trash = nil
	}
}

// moveToTrash moves a message's file. A second link to it is removed.
func (r *removal) moveToTrash(i int) (last bool, err error) {
	m := &r.messages[i]
	if m.state == missing { // it has been moved
		return r.unlink(i)
	}
	st, ok, err := r.examine(i)
	if !ok {
		return false, err
	}
	flags := m.flags()
	if r.retrieved[i] {
		flags = withFlag(flags, 'S')
	}
	base := m.base()
	for range 3 {
		err = moveFile(r.folder.fds[m.in], m.name, r.trash.cur, base+infoPrefix+flags)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
		there, serr := statAt(r.trash.cur, base+infoPrefix+flags)
		if serr == nil && there.Dev == st.Dev && there.Ino == st.Ino { // moved already, but for this name
			return r.unlink(i)
		}
		base = anotherBase(base)
	}
	if errors.Is(err, unix.EXDEV) {
		return false, gateway.Unusable("messages cannot be moved to the trash folder",
			fmt.Errorf("%s lies on another file system: %w", r.trash.path, err))
	}
	if err != nil {
		return false, changeError(err)
	}
	if r.trash.counted {
		m.state = missing // and it takes as much of the quota there
	} else {
		r.leaves(m)
	}
	return st.Nlink == 1, nil
}

// bases counts the base names made, to tell them apart.
var bases atomic.Int64

// anotherBase returns a base name that nothing has, with what base tells of the
// message's size.
func anotherBase(base string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	host = strings.NewReplacer("/", `\057`, ":", `\072`, ",", "_").Replace(host)
	_, fields, found := strings.Cut(base, ",")
	if found {
		fields = "," + fields
	}
	now := time.Now()
	return fmt.Sprintf("%d.M%dP%dQ%d.%s%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), bases.Add(1), host, fields)
}
