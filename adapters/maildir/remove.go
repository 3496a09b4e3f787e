package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
)

// PermitDelete implements gateway.DeletePermitter.
func (d *maildrop) PermitDelete(int) error {
	if !d.moves() {
		return nil
	}
	return d.openTrash()
}

// Outcome implements gateway.OutcomeTeller.
func (d *maildrop) Outcome(i int) gateway.Outcome {
	switch {
	case d.policy.OnDelete == gateway.KeepOnDelete:
		return gateway.Outcome{Fate: gateway.Kept}
	case d.missing[i]:
		return gateway.Outcome{Fate: gateway.Missing}
	case d.policy.OnDelete == gateway.SeenOnDelete:
		return gateway.Outcome{Fate: gateway.Marked}
	case d.trash != nil && !d.trash.isSource:
		return gateway.Outcome{Fate: gateway.Moved, To: d.trash.name}
	}
	return gateway.Outcome{Fate: gateway.Removed}
}

// Delete removes the files of the marked messages, or does with them what the
// policy says, then brings the directories to stable storage, and only then
// reports what is done.
func (d *maildrop) Delete(ctx context.Context, marked []int, removed func(i int)) error {
	if len(marked) == 0 {
		return nil
	}
	if d.policy.OnDelete == gateway.KeepOnDelete {
		for _, i := range marked {
			removed(i)
		}
		return nil
	}
	if err := d.PermitDelete(marked[0]); err != nil {
		return err
	}
	r := removal{maildrop: d, doing: "removing", act: (*removal).unlink}
	switch {
	case d.policy.OnDelete == gateway.SeenOnDelete:
		r.doing, r.act = "marking as read", (*removal).markSeen
	case d.moves() && !d.trash.isSource:
		r.doing, r.act = "moving to the trash", (*removal).moveToTrash
	}
	d.all()
	r.run(ctx, marked)
	d.subtract(r.freed)
	if err := r.sync(); err != nil && len(r.done) > 0 {
		return fmt.Errorf("%d messages may come back after a crash of the machine: %w", len(r.done), err)
	}
	slices.Sort(r.done)
	for _, i := range r.done {
		removed(i)
	}
	if remain := len(marked) - len(r.done); remain > 0 {
		return fmt.Errorf("%s: %d of %d marked messages remain in %s: %w",
			r.doing, remain, len(marked), d.folder.path, errors.Join(r.errs...))
	}
	return nil
}

// removal is the state of one Delete, or of another change of several messages.
type removal struct {
	*maildrop
	doing string // for messages
	// act changes the file of message i if it has the name last seen. Unless
	// last, it is to be searched for: the file has another name, or one more.
	act   func(r *removal, i int) (last bool, err error)
	done  []int   // messages of which nothing is left to do
	errs  []error // the first few reasons for others
	freed usage
}

// run does what it can. The files that were not there by their names are
// searched for, together, and tried again.
func (r *removal) run(ctx context.Context, marked []int) {
	pending := slices.Clone(marked)
	for range maxScans {
		var again []int
		for _, i := range pending {
			if err := ctx.Err(); err != nil {
				r.fail(err)
				return
			}
			switch last, err := r.act(r, i); {
			case err != nil:
				r.fail(fmt.Errorf("%s %s: %w", r.doing, r.path(&r.messages[i]), err))
			case last:
				r.done = append(r.done, i)
			default:
				again = append(again, i)
			}
		}
		if len(again) == 0 {
			return
		}
		if err := r.refresh(ctx); err != nil {
			r.fail(err)
			return
		}
		pending = pending[:0]
		for _, i := range again {
			switch r.found[i] {
			case gone:
				if r.messages[i].state != missing {
					r.miss(i)
				}
				r.done = append(r.done, i)
			case replaced:
				r.fail(fmt.Errorf("%s: %w", r.path(&r.messages[i]), errChanged))
			default:
				pending = append(pending, i)
			}
		}
	}
	if len(pending) > 0 {
		r.fail(errBusy(r.folder))
	}
}

func (r *removal) fail(err error) {
	if len(r.errs) < maxReports {
		r.errs = append(r.errs, err)
	}
}

// miss notes that another program has removed message i.
func (d *maildrop) miss(i int) {
	if d.missing == nil {
		d.missing = make(map[int]bool)
	}
	d.missing[i] = true
}

// examine looks at the file with the name that message i was last seen with. Unless
// ok, the message is to be searched for.
//
// Between the look at the file and its removal another program could put a
// different one in its place. But base names are never used twice, so that would
// be a new state of the same message.
func (r *removal) examine(i int) (st unix.Stat_t, ok bool, err error) {
	m := &r.messages[i]
	st, err = statAt(r.folder.fds[m.in], m.name)
	if errors.Is(err, fs.ErrNotExist) {
		return st, false, nil
	}
	if err != nil {
		return st, false, err
	}
	if !isRegular(&st) || !m.is(identityOf(&st)) {
		m.suspect = true
		return st, false, nil
	}
	return st, true, nil
}

// unlink removes a message's file.
func (r *removal) unlink(i int) (last bool, err error) {
	st, ok, err := r.examine(i)
	if !ok {
		return false, err
	}
	m := &r.messages[i]
	err = retry(func() error { return unix.Unlinkat(r.folder.fds[m.in], m.name, 0) })
	if err != nil {
		return false, changeError(err)
	}
	r.leaves(m)
	// Perhaps another link to the file lies in new or cur.
	return st.Nlink == 1, nil
}

// leaves notes that the message's file has left the folder.
func (r *removal) leaves(m *message) {
	if m.state != missing {
		r.freed.add(m)
		m.state = missing
	}
}

// changeError is the error for a name that could not be changed in a directory;
// nil if there is no such name any more.
func changeError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return gateway.Unusable("messages cannot be removed here",
			fmt.Errorf("the gateway's user (uid %d) needs write permission on the directory: %w", os.Geteuid(), err))
	}
	return err
}

// sync brings what was changed to stable storage: first where files went.
func (r *removal) sync() error {
	if r.trash != nil {
		if err := syncDir(r.trash.cur); err != nil {
			return fmt.Errorf("bringing %s to stable storage: %w", r.trash.path, err)
		}
	}
	return r.folder.sync()
}

// sync brings the directories to stable storage.
func (f *folder) sync() error {
	for i, fd := range f.fds {
		if err := syncDir(fd); err != nil {
			return fmt.Errorf("bringing %s to stable storage: %w", f.sub(subdir(i)), err)
		}
	}
	return nil
}

// syncDir brings a directory to stable storage. A file system that has no such
// operation for directories says EINVAL.
func syncDir(fd int) error {
	if err := retry(func() error { return unix.Fsync(fd) }); err != unix.EINVAL {
		return err
	}
	return nil
}
