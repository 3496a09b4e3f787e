package link

import (
	"context"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// FetchHeaders calls fn with the UID of each message in set ("1:*", "4,7:9") and
// those of its header fields, as a header of their own. fn must not keep them. A
// header of more than most octets is cut there.
//
// Messages may be missing (expunged) or come twice. NO and BAD are *imap.Error.
func (c *Conn) FetchHeaders(ctx context.Context, set string, fields []string, most int, fn func(uid imap.UID, header []byte)) error {
	section := "[HEADER.FIELDS (" + strings.ToUpper(strings.Join(fields, " ")) + ")]"
	var header []byte
	return c.fetchEach(ctx, set, "BODY.PEEK"+section, func(name []byte, it *items) (bool, error) {
		const item = "BODY[HEADER.FIELDS "
		if len(name) < len(item) || !is(name[:len(item)], item) {
			return false, it.skip()
		}
		quoted, size, exists, err := it.text()
		if err != nil || !exists {
			return true, err
		}
		if quoted != nil {
			header = append(header, quoted[:min(len(quoted), most)]...)
			return true, nil
		}
		kept := int(min(size, int64(most)))
		start := len(header)
		header = append(header, make([]byte, kept)...)
		if _, err := io.ReadFull(it.r.br, header[start:]); err != nil {
			return true, err
		}
		if err := it.r.skip(size - int64(kept)); err != nil {
			return true, err
		}
		return true, it.behind()
	}, func(uid uint32) {
		fn(imap.UID(uid), header)
		header = header[:0]
	})
}

// FetchNumber calls fn with the UID of each message in set and the value of item,
// a number such as X-GM-MSGID. It is otherwise as FetchHeaders.
func (c *Conn) FetchNumber(ctx context.Context, set, item string, fn func(uid imap.UID, n uint64)) error {
	var n int64
	return c.fetchEach(ctx, set, item, func(name []byte, it *items) (found bool, err error) {
		if !is(name, item) {
			return false, it.skip()
		}
		n, err = it.number()
		return true, err
	}, func(uid uint32) { fn(imap.UID(uid), uint64(n)) })
}

// fetchEach fetches item. read takes the value of each item of a response but the
// UID, and reports whether it is what was asked for; then, with the UID, the
// message is complete.
func (c *Conn) fetchEach(ctx context.Context, set, item string, read func(name []byte, it *items) (bool, error), complete func(uid uint32)) error {
	x, err := c.exchange(ctx, "UID FETCH "+set+" (UID "+item+")")
	if err != nil {
		return err
	}
	defer x.end()
	var seq, uid uint32
	renumbered, found := 0, false
	for {
		it, more, err := x.next()
		if !more {
			return err
		}
		// Some servers answer in two responses for one message.
		if it.seq != seq || renumbered != c.renumbered {
			seq, renumbered, uid, found = it.seq, c.renumbered, 0, false
		}
		for {
			name, more, err := it.next()
			if err == nil && more {
				if is(name, "UID") {
					uid, err = it.uid()
				} else {
					var ok bool
					ok, err = read(name, &it)
					found = found || ok
				}
			}
			if err != nil {
				return x.fail(err)
			}
			if !more {
				break
			}
		}
		if uid != 0 && found {
			c.wire.progress = true
			complete(uid)
			uid, found = 0, false
		}
	}
}
