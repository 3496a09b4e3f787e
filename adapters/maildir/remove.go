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

// Delete removes the files of the marked messages, then brings the directories
// to stable storage, and only then reports what is gone.
func (d *maildrop) Delete(ctx context.Context, marked []int, removed func(i int)) error {
	if len(marked) == 0 {
		return nil
	}
	d.change(marked[0])
	r := removal{maildrop: d}
	r.run(ctx, marked)
	d.subtract(r.freed)
	if err := d.folder.sync(); err != nil && len(r.done) > 0 {
		return fmt.Errorf("%d messages may come back after a crash of the machine: %w", len(r.done), err)
	}
	slices.Sort(r.done)
	for _, i := range r.done {
		removed(i)
	}
	if remain := len(marked) - len(r.done); remain > 0 {
		return fmt.Errorf("%d of %d marked messages remain in %s: %w",
			remain, len(marked), d.folder.path, errors.Join(r.errs...))
	}
	return nil
}

// removal is the state of one Delete.
type removal struct {
	*maildrop
	done  []int   // messages that are gone
	errs  []error // the first few reasons for others
	freed usage
}

// run removes what it can. The files that were not there by their names are
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
			m := &r.messages[i]
			switch last, err := r.unlink(m); {
			case err != nil:
				r.fail(fmt.Errorf("removing %s: %w", r.path(m), err))
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

// unlink removes the message's file if it has the name last seen. Unless last,
// it is to be searched for: the file has another name, or one more.
//
// Between the look at the file and its removal another program could put a
// different one in its place. But base names are never used twice, so that would
// be a new state of the same message.
func (r *removal) unlink(m *message) (last bool, err error) {
	dir := r.folder.fds[m.in]
	st, err := statAt(dir, m.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !isRegular(&st) || !m.is(identityOf(&st)) {
		m.suspect = true
		return false, nil
	}
	err = retry(func() error { return unix.Unlinkat(dir, m.name, 0) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, fs.ErrPermission), err == unix.EROFS:
		return false, gateway.Unusable("messages cannot be removed here",
			fmt.Errorf("the gateway's user (uid %d) needs write permission on the directory: %w", os.Geteuid(), err))
	case err != nil:
		return false, err
	}
	if m.state != missing {
		r.freed.add(m)
		m.state = missing
	}
	// Perhaps another link to the file lies in new or cur.
	return st.Nlink == 1, nil
}

// sync brings the directories to stable storage. A file system that has no such
// operation for directories says EINVAL.
func (f *folder) sync() error {
	for i, fd := range f.fds {
		err := retry(func() error { return unix.Fsync(fd) })
		if err != nil && err != unix.EINVAL {
			return fmt.Errorf("bringing %s to stable storage: %w", f.sub(subdir(i)), err)
		}
	}
	return nil
}
