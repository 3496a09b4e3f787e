package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// sighting is what a search of the folder says of a message.
type sighting uint8

const (
	unseen   sighting = iota // not found, though the folder changed during the search
	gone                     // no file has its base name
	replaced                 // only another file has its base name
	present                  // its file is there, by the name that is now in message.name
)

// find looks for message i, whose file was not there by its name. All messages
// are looked for at once, so that a thousand renamed files cost one search.
func (d *maildrop) find(ctx context.Context, i int) (sighting, error) {
	if err := d.refresh(ctx); err != nil {
		return unseen, err
	}
	return d.found[i], nil
}

// refresh searches the folder, unless nothing changed since it last did, and
// sets found and the names of the messages.
func (d *maildrop) refresh(ctx context.Context) error {
	now, err := d.folder.version()
	if err != nil {
		return err
	}
	suspects := d.own && slices.ContainsFunc(d.messages, func(m message) bool { return m.suspect })
	if d.found != nil && d.foundAt == now && !suspects {
		return nil
	}
	found := make([]sighting, len(d.all()))
	for range maxScans {
		clear(found)
		var statErr error
		v, whole, err := d.folder.scan(ctx, func(in subdir, name string, _ uint64) {
			if err := d.see(found, in, name); err != nil {
				statErr = err
			}
		})
		if err := errors.Join(err, statErr); err != nil {
			return fmt.Errorf("searching %s: %w", d.folder.path, err)
		}
		d.found, d.foundAt = found, version{}
		if whole {
			d.foundAt = v
			break
		}
	}
	for i := range found {
		if found[i] == unseen && d.foundAt != (version{}) {
			found[i] = gone
		}
		d.messages[i].suspect = false
	}
	return nil
}

// see notes in found that there is a file called name.
func (d *maildrop) see(found []sighting, in subdir, name string) error {
	probe := newMessage(in, name)
	first, ok := slices.BinarySearchFunc(d.messages, probe, func(a, b message) int { return compareBase(&a, &b) })
	if !ok {
		return nil // new mail
	}
	end := first + 1
	for end < len(d.messages) && compareBase(&d.messages[end], &probe) == 0 {
		end++
	}
	if m := &d.messages[first]; end == first+1 && m.in == in && m.name == name && !m.suspect {
		found[first] = present
		return nil
	}
	st, err := statAt(d.folder.fds[in], name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has yet another name by now
	}
	if err != nil {
		return err
	}
	id := identityOf(&st)
	for i := first; i < end; i++ {
		m := &d.messages[i]
		switch {
		case isRegular(&st) && m.is(id) && (m.file.inode == id.inode || found[i] != present):
			m.in, m.name = in, name
			found[i] = present
		case found[i] == unseen:
			found[i] = replaced
		}
	}
	return nil
}
