package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pop3gw/gateway"
	"pop3gw/gateway/wire"
)

// counter finds the sizes of messages. Each file is read once, by the code that
// also sends it. What file names say of sizes (,S= ,W=) is not believed. It is safe
// for concurrent use.
type counter struct {
	slots chan struct{} // one for each file read at a time, for all sessions
	files atomic.Int64  // read so far, for tests
}

func newCounter(parallel int) *counter {
	return &counter{slots: make(chan struct{}, parallel)}
}

// measure sets state, file and octets of the messages that are unmeasured or
// presumed. An unreadable one is a state, not an error. An error means that the
// folder cannot be listed now.
func (c *counter) measure(ctx context.Context, f *folder, messages []message, work *work) error {
	work.all.Store(int64(len(messages)))
	work.done.Store(0)
	const batch = 64 // messages a goroutine takes at a time
	workers := min(cap(c.slots), (len(messages)+batch-1)/batch)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			return work.guard(func() error {
				for {
					end := int(next.Add(batch))
					for i := end - batch; i < min(end, len(messages)); i++ {
						if err := c.measureOne(ctx, f, &messages[i], work); err != nil {
							return err
						}
					}
					work.done.Add(batch)
					if end >= len(messages) {
						return nil
					}
				}
			})
		})
	}
	return group.Wait()
}

func (c *counter) measureOne(ctx context.Context, f *folder, m *message, work *work) error {
	if m.state != unmeasured && m.state != presumed {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	st, err := statAt(f.fds[m.in], m.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.state = missing
		return nil
	case errors.Is(err, fs.ErrPermission):
		return gateway.Unusable("the maildrop is not readable",
			fmt.Errorf("the gateway's user needs execute permission on %s: %w", f.sub(m.in), err))
	case err != nil:
		return fmt.Errorf("examining %s in %s: %w", m.name, f.sub(m.in), err)
	case !isRegular(&st):
		m.state = foreign
		return nil
	}
	if m.state == presumed && m.file == identityOf(&st) {
		m.state = readable
		return nil
	}
	m.file = identityOf(&st)
	return c.count(ctx, f, m, work)
}

// count reads the message's file. One that keeps changing counts as unreadable.
func (c *counter) count(ctx context.Context, f *folder, m *message, work *work) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	for range 3 {
		err = c.countOnce(ctx, f, m)
		if !errors.Is(err, errChanged) {
			break
		}
	}
	switch {
	case err == nil:
		m.state = readable
	case ctx.Err() != nil:
		return ctx.Err()
	case scarce(err):
		return gateway.Unavailable("the mail store is overloaded", err)
	case errors.Is(err, fs.ErrNotExist):
		m.state = missing
	case errors.Is(err, errNotRegular):
		m.state = foreign
	default:
		m.octets, m.state = m.file.size, unreadable
		work.unreadable(m, err)
	}
	return nil
}

func (c *counter) countOnce(ctx context.Context, f *folder, m *message) (err error) {
	c.files.Add(1)
	started := time.Now()
	b, err := f.openBody(m.in, m.name)
	if err != nil {
		return err
	}
	defer b.Close()
	m.file = b.id
	m.octets, err = wire.Count(contextReader{ctx, b})
	// A file that was changed just now may change again without its time telling. The
	// time of its content alone may be any, also one to come: that of a letter.
	m.fresh = started.Sub(time.Unix(0, min(b.id.modified, b.changed))) <= settleTime
	return err
}

// settleTime is how old a file must be for its size to be remembered: longer
// than the coarsest time stamps, of 2 s.
const settleTime = 3 * time.Second

// contextReader ends with the context's error.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
