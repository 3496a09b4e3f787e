package maildir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
)

// subdir tells in which of the two directories of a folder a message lies.
type subdir uint8

const (
	inNew subdir = iota
	inCur
)

var subdirNames = [...]string{inNew: "new", inCur: "cur"}

// folder is a Maildir, or a folder of a Maildir++, with its directories open:
// later work goes through them, so that the folder stays the one that is locked.
// They are bare file descriptors, since what an os.File does for each of them
// costs as much as opening it.
type folder struct {
	path string // for messages
	name string // of its directory, ".A.B"; "" for the Maildir itself
	top  int    // the Maildir, where the quota file lies; dir if it is the folder
	dir  int    // the folder; holds the lock
	fds  [2]int // new and cur

	trash bool // it is the folder that quotas do not count
}

// noDir stands for a directory that is not open.
const noDir = -1

// maildirPath is the path of the Maildir that it is in, for messages.
func (f *folder) maildirPath() string {
	if f.name == "" {
		return f.path
	}
	return filepath.Dir(f.path)
}

// sub is the path of new or cur, for messages.
func (f *folder) sub(in subdir) string { return f.path + "/" + subdirNames[in] }

// openFolder opens the Maildir below root, or its folder named subfolder if that
// is not "". Symbolic links on the way to the Maildir are followed while they
// stay within root; from the Maildir on none is.
func openFolder(root, below, subfolder string) (*folder, error) {
	path := filepath.Join(root, below)
	dir, err := openBelow(root, below)
	if err != nil {
		return nil, openError(path, err)
	}
	f := &folder{path: path, name: subfolder, top: dir, dir: dir, fds: [2]int{noDir, noDir}}
	if subfolder != "" {
		f.trash = subfolder == ".Trash"
		f.dir, f.path, err = openSubfolder(dir, subfolder, path)
		if errors.Is(err, fs.ErrNotExist) {
			f.close()
			return nil, gateway.Unusable("there is no such folder", err)
		} else if err != nil {
			f.close()
			return nil, openError(f.path, err)
		}
	}
	for i, name := range subdirNames {
		path := f.sub(subdir(i))
		f.fds[i], err = openDir(f.dir, name, path)
		if err != nil {
			f.close()
			return nil, openError(path, err)
		}
	}
	return f, nil
}

// openSubfolder opens the directory of a folder of the Maildir at path, which is
// open as top, and returns its path. If there is none the error is fs.ErrNotExist.
func openSubfolder(top int, name, path string) (fd int, at string, err error) {
	var first error
	for _, spelling := range spellings(name) {
		at = filepath.Join(path, spelling)
		if fd, err = openDir(top, spelling, at); !errors.Is(err, fs.ErrNotExist) {
			return fd, at, err
		}
		first = cmp.Or(first, err)
	}
	return noDir, filepath.Join(path, spellings(name)[0]), first
}

// openBelow opens the directory below root. Where the system can see to it that
// the path does not leave root it does so in one go. It takes no absolute link
// then, and may be too old: otherwise the path is resolved first and opened
// through os.Root, which finds out if a link was put there in between.
func openBelow(root, below string) (int, error) {
	if fd, err := openBeneath(root, below); err == nil {
		return fd, nil
	}
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return noDir, err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(root, below))
	if err != nil {
		return noDir, err
	}
	rel, err := filepath.Rel(realRoot, real)
	if err != nil || !filepath.IsLocal(rel) {
		return noDir, fmt.Errorf("a symbolic link leads out of %s, to %s", root, real)
	}
	r, err := os.OpenRoot(realRoot)
	if err != nil {
		return noDir, err
	}
	defer r.Close()
	dir, err := r.OpenFile(rel, unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return noDir, err
	}
	defer dir.Close()
	return openDir(int(dir.Fd()), ".", real)
}

// openDir opens the directory called name in parent, which must not be a link.
func openDir(parent int, name, path string) (fd int, err error) {
	fd, err = openat(parent, name, unix.O_DIRECTORY)
	if err != nil {
		return noDir, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// openat opens a file for reading, without following a link at its end and
// without waiting for the other end of a FIFO.
func openat(dir int, name string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC|flags, 0)
		return err
	})
	return fd, err
}

// retry calls f until no signal interrupts it: network and FUSE file systems
// may answer EINTR.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// openError says to the client what keeps the directory at path from being
// opened, and to the operator what to do.
func openError(path string, err error) error {
	switch {
	case scarce(err):
		return gateway.Unavailable("the mail store is overloaded", err)
	case errors.Is(err, fs.ErrNotExist):
		return gateway.Unusable("the maildrop does not exist",
			fmt.Errorf("%s does not exist (is a file system not mounted?); create it or correct path: %w", path, err))
	case errors.Is(err, fs.ErrPermission):
		return gateway.Unusable("the maildrop is not readable",
			fmt.Errorf("%s: the gateway's user (uid %d) needs to read and enter it: %w", path, os.Geteuid(), err))
	default:
		return gateway.Unusable("the maildrop cannot be opened", fmt.Errorf("%s: %w", path, err))
	}
}

// scarce tells whether err is a lack of something that passes.
func scarce(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// lock takes the folder for one session, as the policy of locks says. unlock must be
// called before close. Both locks are of the directory itself, by whatever path it
// was reached.
func (f *folder) lock(ctx context.Context, locks *gateway.Locks) (unlock func(), err error) {
	fd := f.dir
	st, err := fstat(fd)
	if err != nil {
		return nil, fmt.Errorf("examining %s: %w", f.path, err)
	}
	release, _, err := locks.Lock(ctx, "maildir "+strconv.FormatUint(uint64(st.Dev), 10)+":"+strconv.FormatUint(uint64(st.Ino), 10))
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", f.path, err)
	}
	ok, err := locks.Retry(ctx, func() (bool, error) {
		err := retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if err == unix.EWOULDBLOCK {
			return false, nil
		}
		return err == nil, err
	})
	switch {
	case ok:
		return sync.OnceFunc(func() {
			unix.Flock(fd, unix.LOCK_UN) // a failure leaves it to close
			release()
		}), nil
	case err == nil:
		err = gateway.InUse(fmt.Errorf("another process holds the lock of %s", f.path))
	case ctx.Err() == nil:
		err = gateway.Unusable("the maildrop cannot be locked",
			fmt.Errorf("flock of %s, which its file system must support: %w", f.path, err))
	}
	release()
	return nil, err
}

// isLocal reports whether the directories' times tell of every change in them.
func (f *folder) isLocal() bool { return isLocal(f.fds[inNew]) && isLocal(f.fds[inCur]) }

// close closes the directories, once.
func (f *folder) close() error {
	if f.top == f.dir {
		f.top = noDir
	}
	var errs []error
	for _, fd := range []*int{&f.fds[inNew], &f.fds[inCur], &f.dir, &f.top} {
		if *fd == noDir {
			continue
		}
		if err := unix.Close(*fd); err != nil && err != unix.EINTR {
			errs = append(errs, fmt.Errorf("closing a directory of %s: %w", f.path, err))
		}
		*fd = noDir
	}
	return errors.Join(errs...)
}
