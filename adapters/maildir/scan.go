package maildir

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// clockTick is longer than the time within which two changes of a directory
	// may bear one time stamp: a kernel tick is 10 ms at most. Some file systems
	// only know whole seconds.
	clockTick  = 20 * time.Millisecond
	coarseTick = time.Second + clockTick

	// maxScans is how often the directories are read in the hope that nothing
	// changes meanwhile. A message is missed by all only if it is renamed during
	// each, in the wrong direction each time.
	maxScans = 5

	direntOctets = 64 << 10 // read from a directory at once
)

// version tells two states of a folder's directories apart: which they are, and
// their times of modification and of change, in nanoseconds since 1970.
type version [2]struct {
	dev, inode        uint64
	modified, changed int64
}

// sameDirs reports whether v and w are versions of the same directories.
func (v version) sameDirs(w version) bool {
	for i := range v {
		if v[i].dev != w[i].dev || v[i].inode != w[i].inode {
			return false
		}
	}
	return true
}

// version returns that of now.
func (f *folder) version() (v version, err error) {
	for i, fd := range f.fds {
		st, err := fstat(fd)
		if err != nil {
			return v, fmt.Errorf("examining %s: %w", f.sub(subdir(i)), err)
		}
		v[i].dev, v[i].inode = uint64(st.Dev), uint64(st.Ino)
		v[i].modified, v[i].changed = st.Mtim.Nano(), st.Ctim.Nano()
	}
	return v, nil
}

// settled returns the folder's version once its directories are older than a
// tick, so that whatever happens from now on gives another version. If that does
// not come soon, ok is false.
func (f *folder) settled(ctx context.Context) (v version, ok bool, err error) {
	v, err = f.version()
	for range 2 {
		if err != nil {
			return v, false, err
		}
		changed, tick := max(v[inNew].changed, v[inCur].changed), clockTick
		if changed%int64(time.Second) == 0 {
			tick = coarseTick
		}
		age := time.Since(time.Unix(0, changed))
		if age >= tick {
			return v, true, nil
		}
		// The file system's clock may be ahead of ours: then a tick without a
		// change will do.
		timer := time.NewTimer(min(tick-age, tick))
		select {
		case <-ctx.Done():
			timer.Stop()
			return v, false, ctx.Err()
		case <-timer.C:
		}
		before := v
		if v, err = f.version(); err == nil && v == before {
			return v, true, nil
		}
	}
	return v, false, err
}

// scan calls see with each file name in new and cur, and its inode. POSIX leaves open
// whether a directory's reader meets a file that is renamed meanwhile once, twice or
// not at all. If whole, nothing changed, and v is the version of what was seen;
// otherwise the caller may want to scan again.
//
// new is read before cur, since that is the way messages move.
func (f *folder) scan(ctx context.Context, see func(in subdir, name string, inode uint64)) (v version, whole bool, err error) {
	before, settled, err := f.settled(ctx)
	if err != nil {
		return v, false, err
	}
	for i := range f.fds {
		if err := f.read(ctx, subdir(i), see); err != nil {
			return v, false, err
		}
	}
	v, err = f.version()
	return v, settled && v == before, err
}

// direntBuffers are scratch for reading directories.
var direntBuffers = sync.Pool{New: func() any { return new([direntOctets]byte) }}

// read calls see with the file names in one directory, and their inodes.
func (f *folder) read(ctx context.Context, in subdir, see func(in subdir, name string, inode uint64)) error {
	fd, buf := f.fds[in], direntBuffers.Get().(*[direntOctets]byte)
	defer direntBuffers.Put(buf)
	_, err := unix.Seek(fd, 0, io.SeekStart)
	for more := true; more && err == nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err = readDir(fd, buf[:], func(name string, inode uint64) {
			if name[0] != '.' {
				see(in, name, inode)
			}
		})
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", f.sub(in), err)
	}
	return nil
}
