package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
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

	namesAtOnce = 1024 // read from a directory
)

// version tells two states of a folder's directories apart: their times of
// modification and of change, in nanoseconds since 1970.
type version [2]struct{ modified, changed int64 }

// version returns that of now.
func (f *folder) version() (v version, err error) {
	for i, fd := range f.fds {
		st, err := fstat(fd)
		if err != nil {
			return v, fmt.Errorf("examining %s: %w", f.subs[i].Name(), err)
		}
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

// scan calls see with each file name in new and cur. POSIX leaves open whether a
// directory's reader meets a file that is renamed meanwhile once, twice or not
// at all. If whole, nothing changed, and v is the version of what was seen;
// otherwise the caller may want to scan again.
//
// new is read before cur, since that is the way messages move.
func (f *folder) scan(ctx context.Context, see func(in subdir, name string)) (v version, whole bool, err error) {
	before, settled, err := f.settled(ctx)
	if err != nil {
		return v, false, err
	}
	for i := range f.subs {
		if err := f.read(ctx, subdir(i), see); err != nil {
			return v, false, err
		}
	}
	v, err = f.version()
	return v, settled && v == before, err
}

// read calls see with the file names in one directory.
func (f *folder) read(ctx context.Context, in subdir, see func(in subdir, name string)) error {
	dir := f.subs[in]
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading %s: %w", dir.Name(), err)
	}
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		for _, name := range names {
			if name[0] != '.' {
				see(in, name)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", dir.Name(), err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
