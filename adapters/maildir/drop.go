package maildir

import (
	"context"
	"io"
	"slices"

	"pop3gw/gateway"
	"pop3gw/gateway/uidl"
)

// drop is a maildrop as a session has it: in its order, and with its unique-ids.
// It implements gateway.Maildrop.
type drop struct {
	d        *maildrop
	arranged *arranged // nil where messages are in the order of maildrop
	names    *uidl.Names
}

var (
	_ gateway.DeletePermitter = (*drop)(nil)
	_ gateway.SizeCorrecter   = (*drop)(nil)
	_ gateway.OutcomeTeller   = (*drop)(nil)
	_ gateway.TrashChecker    = (*drop)(nil)
)

// at returns which message of maildrop message i is.
func (o *drop) at(i int) int {
	if o.arranged == nil {
		return i
	}
	return int(o.arranged.order[i])
}

func (o *drop) Len() int                           { return o.d.Len() }
func (o *drop) Size(i int) int64                   { return o.d.Size(o.at(i)) }
func (o *drop) CorrectSize(i int, octets int64)    { o.d.CorrectSize(o.at(i), octets) }
func (o *drop) PermitDelete(i int) error           { return o.d.PermitDelete(o.at(i)) }
func (o *drop) Outcome(i int) gateway.Outcome      { return o.d.Outcome(o.at(i)) }
func (o *drop) CheckTrash(context.Context) error   { return o.d.PermitDelete(0) }
func (o *drop) AppendUID(dst []byte, i int) []byte { return o.names.Append(dst, i) }

func (o *drop) Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error) {
	r, err := o.d.Retrieve(ctx, o.at(i), lines)
	if err != nil || lines == 0 {
		return r, err
	}
	return o.names.Watch(i, r), nil
}

// Delete has the maildrop delete, which wants its messages in its own order, and
// reports what is gone in the session's.
func (o *drop) Delete(ctx context.Context, marked []int, removed func(i int)) error {
	if o.arranged == nil {
		return o.d.Delete(ctx, marked, func(i int) {
			o.forget(i)
			removed(i)
		})
	}
	its, session := make([]int, len(marked)), make(map[int]int, len(marked))
	for k, i := range marked {
		its[k] = o.at(i)
		session[its[k]] = i
	}
	slices.Sort(its)
	return o.d.Delete(ctx, its, func(at int) {
		o.forget(session[at])
		removed(session[at])
	})
}

// forget forgets message i, if it is gone.
func (o *drop) forget(i int) {
	switch o.Outcome(i).Fate {
	case gateway.Kept, gateway.Marked:
	default:
		o.names.Removed(i)
	}
}

func (o *drop) Close() error {
	if err := o.names.Close(closeWait); err != nil {
		o.d.log.Warn("unique-ids of what was retrieved could not be kept", "error", err)
	}
	learn := o.names.Learner()
	if learn == nil {
		return o.d.Close()
	}
	o.d.release()
	o.d.adapter.background.Go(func() {
		learn(o.d.adapter.ctx)
		o.d.folder.close()
	})
	return nil
}

// ExportUIDs calls write with the unique-id of each message, its Message-ID and
// size.
func (o *drop) ExportUIDs(ctx context.Context, write func(uidl.Listed) error) error {
	return o.names.Export(ctx, write)
}
