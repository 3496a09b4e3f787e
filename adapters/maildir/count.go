package maildir

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pop3gw/gateway"
	"pop3gw/gateway/wire"
)

// counter finds the sizes of messages. Each file is read once, by the code that
// also sends it, and its size is remembered. What file names say of sizes (,S=
// ,W=) is not believed. It is safe for concurrent use.
type counter struct {
	slots chan struct{} // one for each file read at a time, for all sessions
	cache sizeCache
}

func newCounter(parallel int) *counter {
	return &counter{slots: make(chan struct{}, parallel)}
}

// measure sets state, file and octets of the messages that are unmeasured. An
// unreadable one is a state, not an error, and reported to unread, from several
// goroutines at once. An error means that the folder cannot be listed now.
func (c *counter) measure(ctx context.Context, f *folder, messages []message, unread func(*message, error)) error {
	const batch = 64 // messages a goroutine takes at a time
	workers := min(cap(c.slots), (len(messages)+batch-1)/batch)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for {
				end := int(next.Add(batch))
				for i := end - batch; i < min(end, len(messages)); i++ {
					if err := c.measureOne(ctx, f, &messages[i], unread); err != nil {
						return err
					}
				}
				if end >= len(messages) {
					return nil
				}
			}
		})
	}
	return group.Wait()
}

func (c *counter) measureOne(ctx context.Context, f *folder, m *message, unread func(*message, error)) error {
	if m.state != unmeasured {
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
			fmt.Errorf("the gateway's user needs execute permission on %s: %w", f.subs[m.in].Name(), err))
	case err != nil:
		return fmt.Errorf("examining %s in %s: %w", m.name, f.subs[m.in].Name(), err)
	case !isRegular(&st):
		m.state = foreign
		return nil
	}
	m.file = identityOf(&st)
	if octets, ok := c.cache.get(keyOf(uint64(st.Dev), m)); ok {
		m.octets, m.state = octets, readable
		return nil
	}
	return c.count(ctx, f, m, unread)
}

// count reads the message's file. One that keeps changing counts as unreadable.
func (c *counter) count(ctx context.Context, f *folder, m *message, unread func(*message, error)) error {
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
		unread(m, err)
	}
	return nil
}

func (c *counter) countOnce(ctx context.Context, f *folder, m *message) (err error) {
	started := time.Now()
	b, err := f.openBody(m.in, m.name)
	if err != nil {
		return err
	}
	defer b.Close()
	m.file = b.id
	m.octets, err = wire.Count(contextReader{ctx, b})
	// A file that was changed just now may change again without its time telling.
	if err == nil && started.Sub(time.Unix(0, b.id.modified)) > settleTime {
		c.cache.put(keyOf(b.dev, m), m.octets)
	}
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

// sizeCache remembers the octets of files. Losing it costs time alone. The zero
// value is empty and ready, and safe for concurrent use.
type sizeCache struct {
	mu       sync.Mutex
	new, old map[fileKey]int64
}

// fileKey is a digest of all that would be different in another message's file,
// or in the file once it was changed. Full keys would take three times the space.
type fileKey [16]byte

func keyOf(dev uint64, m *message) fileKey {
	var b [4*8 + maxPart]byte
	k := binary.LittleEndian.AppendUint64(b[:0], dev)
	k = binary.LittleEndian.AppendUint64(k, m.file.inode)
	k = binary.LittleEndian.AppendUint64(k, uint64(m.file.size))
	k = binary.LittleEndian.AppendUint64(k, uint64(m.file.modified))
	sum := sha256.Sum256(append(k, m.base()...))
	return fileKey(sum[:16])
}

// maxCached is the greatest number of sizes in each of the cache's two halves.
// Together they take some 20 MB then.
const maxCached = 1 << 18

func (c *sizeCache) get(k fileKey) (octets int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if octets, ok = c.new[k]; ok {
		return octets, true
	}
	if octets, ok = c.old[k]; ok {
		c.store(k, octets)
	}
	return octets, ok
}

func (c *sizeCache) put(k fileKey, octets int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(k, octets)
}

// store puts a size into the new half. When that is full it becomes the old
// one, and what was not asked for since the last time is forgotten.
func (c *sizeCache) store(k fileKey, octets int64) {
	if len(c.new) >= maxCached {
		c.old, c.new = c.new, nil
	}
	if c.new == nil {
		c.new = make(map[fileKey]int64)
	}
	c.new[k] = octets
}
