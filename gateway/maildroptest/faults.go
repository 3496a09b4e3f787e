package maildroptest

import (
	"context"
	"errors"
	"io"
	"time"

	"pop3gw/gateway"
)

// Faults is a gateway.Adapter that passes everything to Adapter, except where a
// field says how to fail. The zero value of each of them fails nothing. They are
// set before the first Open and not changed afterwards. Maps are by message
// index.
type Faults struct {
	Adapter gateway.Adapter

	OpenDelay time.Duration // before Open does anything; ends early with its ctx
	OpenErr   error         // Open fails with it

	Sizes map[int]int64 // Size answers this in place of the truth

	RetrieveDelay time.Duration     // before Retrieve does anything; ends early with its ctx
	RetrieveErr   map[int]error     // Retrieve fails with it: gateway.Gone(nil)
	Body          map[int]BodyFault // what is wrong with the message's reader

	PermitErr   map[int]error // PermitDelete answers it
	DeleteDelay time.Duration // before Delete does anything; ends early with its ctx
	DeleteErr   map[int]error // the message is not removed, and Delete's error holds this

	MaildropCloseErr error // the maildrop's Close returns it, having closed the maildrop
}

// BodyFault is what goes wrong while a message is read. A fault with neither Err
// nor Truncate delivers the whole message.
type BodyFault struct {
	After    int64         // octets, as stored, delivered before Err or Truncate takes effect
	Err      error         // the reader fails with it
	Truncate bool          // the reader ends with io.EOF, as no good adapter's would
	Delay    time.Duration // before every Read
	CloseErr error         // Close returns it, having closed the reader
}

// Open implements gateway.Adapter.
func (f *Faults) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	if err := wait(ctx, f.OpenDelay); err != nil {
		return nil, err
	}
	if f.OpenErr != nil {
		return nil, f.OpenErr
	}
	d, err := f.Adapter.Open(ctx, account)
	if err != nil {
		return nil, err
	}
	return &faultyMaildrop{Maildrop: d, faults: f}, nil
}

// Check implements gateway.Checker with OpenErr and, if it has one, Adapter's Check.
func (f *Faults) Check(ctx context.Context) error {
	if f.OpenErr != nil {
		return f.OpenErr
	}
	if c, ok := f.Adapter.(gateway.Checker); ok {
		return c.Check(ctx)
	}
	return nil
}

type faultyMaildrop struct {
	gateway.Maildrop
	faults *Faults
}

func (d *faultyMaildrop) Size(i int) int64 {
	if size, ok := d.faults.Sizes[i]; ok {
		return size
	}
	return d.Maildrop.Size(i)
}

func (d *faultyMaildrop) Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error) {
	if err := wait(ctx, d.faults.RetrieveDelay); err != nil {
		return nil, err
	}
	if err := d.faults.RetrieveErr[i]; err != nil {
		return nil, err
	}
	body, err := d.Maildrop.Retrieve(ctx, i, lines)
	if err != nil {
		return nil, err
	}
	if fault, ok := d.faults.Body[i]; ok {
		return &faultyBody{ReadCloser: body, fault: fault, left: fault.After}, nil
	}
	return body, nil
}

func (d *faultyMaildrop) PermitDelete(i int) error {
	if err := d.faults.PermitErr[i]; err != nil {
		return err
	}
	if p, ok := d.Maildrop.(gateway.DeletePermitter); ok {
		return p.PermitDelete(i)
	}
	return nil
}

func (d *faultyMaildrop) Delete(ctx context.Context, marked []int, removed func(i int)) error {
	if err := wait(ctx, d.faults.DeleteDelay); err != nil {
		return err
	}
	var errs []error
	sound := make([]int, 0, len(marked))
	for _, i := range marked {
		if err := d.faults.DeleteErr[i]; err != nil {
			errs = append(errs, err)
		} else {
			sound = append(sound, i)
		}
	}
	errs = append(errs, d.Maildrop.Delete(ctx, sound, removed))
	return errors.Join(errs...)
}

func (d *faultyMaildrop) Close() error {
	return errors.Join(d.Maildrop.Close(), d.faults.MaildropCloseErr)
}

type faultyBody struct {
	io.ReadCloser
	fault BodyFault
	left  int64 // octets before the fault
}

func (b *faultyBody) Read(p []byte) (int, error) {
	time.Sleep(b.fault.Delay)
	if b.fault.Err == nil && !b.fault.Truncate {
		return b.ReadCloser.Read(p)
	}
	if b.left == 0 && b.fault.Err != nil {
		return 0, b.fault.Err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

func (b *faultyBody) Close() error {
	return errors.Join(b.ReadCloser.Close(), b.fault.CloseErr)
}

// wait sleeps for d, or until ctx ends, which is an error.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
