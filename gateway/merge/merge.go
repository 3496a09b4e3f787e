// Package merge makes one maildrop of several folders. The messages come folder by
// folder, in the order of these, and within one in its own.
package merge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"pop3gw/gateway"
	"pop3gw/gateway/uidl"
)

// Part is a folder, open and listed.
type Part struct {
	gateway.Maildrop

	// Name is the folder's, the same in every session. It is part of the unique-ids,
	// unless it is "": that folder's are as they are where it is served alone, so
	// that others can be added without a message being downloaded again. At most one
	// has none.
	Name string
}

// part is a Part and where it begins.
type part struct {
	Part
	start int    // index of its first message
	tag   string // behind its unique-ids; "" for the one without a name
}

// Maildrop is the folders as one gateway.Maildrop.
type Maildrop struct {
	parts []part
	count int
}

var (
	_ gateway.DeletePermitter = (*Maildrop)(nil)
	_ gateway.SizeCorrecter   = (*Maildrop)(nil)
	_ gateway.OutcomeTeller   = (*Maildrop)(nil)
	_ gateway.TrashChecker    = (*Maildrop)(nil)
)

// New returns the parts, which are the maildrop's to close, as one.
func New(parts []Part) *Maildrop {
	d := new(Maildrop)
	for _, p := range parts {
		d.parts = append(d.parts, part{Part: p, start: d.count, tag: tag(p.Name)})
		d.count += p.Len()
	}
	return d
}

const (
	maxUID     = 70 // octets (RFC 1939 §7)
	tagOctets  = 8  // of a digest
	hashOctets = 24
)

// tag is what stands behind the unique-ids of a folder.
func tag(name string) string {
	if name == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(name))
	return "-" + hex.EncodeToString(sum[:tagOctets])
}

// of returns the part that message i is in, and its index there.
func (d *Maildrop) of(i int) (*part, int) {
	at := sort.Search(len(d.parts), func(k int) bool { return d.parts[k].start > i }) - 1
	return &d.parts[at], i - d.parts[at].start
}

// Len implements gateway.Maildrop.
func (d *Maildrop) Len() int { return d.count }

// Size implements gateway.Maildrop.
func (d *Maildrop) Size(i int) int64 {
	p, at := d.of(i)
	return p.Size(at)
}

// AppendUID implements gateway.Maildrop. Two folders may know messages by the same
// name, so that behind it stands which folder it is; what gets too long, or looks
// like the name of a message in another folder, is hashed.
func (d *Maildrop) AppendUID(dst []byte, i int) []byte {
	p, at := d.of(i)
	start := len(dst)
	return d.tagged(p, p.AppendUID(dst, at), start)
}

// tagged makes of dst[start:], the unique-id of a message of p, the one here.
func (d *Maildrop) tagged(p *part, dst []byte, start int) []byte {
	uid := dst[start:]
	if p.tag == "" {
		if !d.isTagged(uid) {
			return dst
		}
	} else if len(uid)+len(p.tag) <= maxUID {
		return append(dst, p.tag...)
	}
	hash := sha256.New()
	hash.Write([]byte(p.Name + "\x00"))
	hash.Write(uid)
	return hex.AppendEncode(append(dst[:start], "merged-"...), hash.Sum(nil)[:hashOctets])
}

func (d *Maildrop) isTagged(uid []byte) bool {
	return slices.ContainsFunc(d.parts, func(p part) bool {
		return p.tag != "" && len(uid) >= len(p.tag) && string(uid[len(uid)-len(p.tag):]) == p.tag
	})
}

// Exporter is a Maildrop that can list its unique-ids, each with the Message-ID and the
// size of its message.
type Exporter interface {
	ExportUIDs(ctx context.Context, write func(uidl.Listed) error) error
}

// ExportUIDs implements Exporter: folder by folder.
func (d *Maildrop) ExportUIDs(ctx context.Context, write func(uidl.Listed) error) error {
	for k := range d.parts {
		p := &d.parts[k]
		e, ok := p.Maildrop.(Exporter)
		if !ok {
			return p.explain(errors.New("this kind of maildrop cannot be listed"))
		}
		err := e.ExportUIDs(ctx, func(l uidl.Listed) error {
			l.UID = string(d.tagged(p, []byte(l.UID), 0))
			return write(l)
		})
		if err != nil {
			return p.explain(err)
		}
	}
	return nil
}

// Retrieve implements gateway.Maildrop.
func (d *Maildrop) Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error) {
	p, at := d.of(i)
	return p.Retrieve(ctx, at, lines)
}

// PermitDelete implements gateway.DeletePermitter.
func (d *Maildrop) PermitDelete(i int) error {
	p, at := d.of(i)
	if permitter, ok := p.Maildrop.(gateway.DeletePermitter); ok {
		return permitter.PermitDelete(at)
	}
	return nil
}

// CheckTrash implements gateway.TrashChecker: in each folder.
func (d *Maildrop) CheckTrash(ctx context.Context) error {
	for k := range d.parts {
		if c, ok := d.parts[k].Maildrop.(gateway.TrashChecker); ok {
			if err := c.CheckTrash(ctx); err != nil {
				return d.parts[k].explain(err)
			}
		}
	}
	return nil
}

// CorrectSize implements gateway.SizeCorrecter.
func (d *Maildrop) CorrectSize(i int, octets int64) {
	p, at := d.of(i)
	if c, ok := p.Maildrop.(gateway.SizeCorrecter); ok {
		c.CorrectSize(at, octets)
	}
}

// Outcome implements gateway.OutcomeTeller.
func (d *Maildrop) Outcome(i int) gateway.Outcome {
	p, at := d.of(i)
	if t, ok := p.Maildrop.(gateway.OutcomeTeller); ok {
		return t.Outcome(at)
	}
	return gateway.Outcome{}
}

// Delete implements gateway.Maildrop: in each folder its own. One that fails does
// not keep the others.
func (d *Maildrop) Delete(ctx context.Context, marked []int, removed func(i int)) error {
	var errs []error
	for k := range d.parts {
		p := &d.parts[k]
		from, _ := slices.BinarySearch(marked, p.start)
		to, _ := slices.BinarySearch(marked, p.start+p.Len())
		own := slices.Clone(marked[from:to])
		for at := range own {
			own[at] -= p.start
		}
		if err := p.Delete(ctx, own, func(at int) { removed(p.start + at) }); err != nil {
			errs = append(errs, p.explain(err))
		}
	}
	return errors.Join(errs...)
}

// explain says in which folder an error is.
func (p *part) explain(err error) error {
	if p.Name == "" {
		return err
	}
	return fmt.Errorf("in folder %q: %w", p.Name, err)
}

// Close implements gateway.Maildrop. The folder opened first is closed last.
func (d *Maildrop) Close() error {
	var errs []error
	for k := range slices.Backward(d.parts) {
		if err := d.parts[k].Close(); err != nil {
			errs = append(errs, d.parts[k].explain(err))
		}
	}
	return errors.Join(errs...)
}
