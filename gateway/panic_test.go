package gateway_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"pop3gw/gateway"
)

// A panic ends its session, frees the maildrop, removes nothing of its own, and
// is in the log. The process and the other sessions go on.
func TestPanic(t *testing.T) {
	for _, where := range []string{"Login", "Open", "Size", "Retrieve", "Read", "Delete", "Close"} {
		t.Run(where, func(t *testing.T) {
			store := memory(sample)
			a := &panicking{Adapter: store, where: where}
			r := newRig(t, a, gateway.Limits{})
			r.server.Accounts = a
			c := r.connect()
			c.send("USER alice\r\nPASS x\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
			got := c.rest()
			if where == "Read" && strings.HasSuffix(got, "\r\n.\r\n") {
				t.Errorf("the message looks complete: %q", got)
			}
			if where == "Delete" && !strings.HasSuffix(got, "+OK message is marked as deleted\r\n") {
				t.Errorf("QUIT was answered: %q", got)
			}
			if log := r.log.String(); !strings.Contains(log, "panic=oops") || !strings.Contains(log, `ended="internal error"`) {
				t.Errorf("the log lacks the panic:\n%s", log)
			}
			a.where = "" // its session has ended
			r.logIn("alice")
		})
	}
}

// panicking panics where it is told to. The maildrop's lock is released first
// where it is Close that panics.
type panicking struct {
	gateway.Adapter
	where string
}

func (p *panicking) at(where string) {
	if p.where == where {
		panic("oops")
	}
}

func (p *panicking) Login(_ context.Context, c gateway.Credentials) (gateway.Account, error) {
	p.at("Login")
	return gateway.Account{Name: c.User, Adapter: p}, nil
}

func (p *panicking) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	p.at("Open")
	m, err := p.Adapter.Open(ctx, account)
	return panickingMaildrop{m, p}, err
}

type panickingMaildrop struct {
	gateway.Maildrop
	*panicking
}

func (m panickingMaildrop) Size(i int) int64 {
	m.at("Size")
	return m.Maildrop.Size(i)
}

func (m panickingMaildrop) Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error) {
	m.at("Retrieve")
	r, err := m.Maildrop.Retrieve(ctx, i, lines)
	return panickingBody{r, m.panicking}, err
}

func (m panickingMaildrop) Delete(ctx context.Context, marked []int, removed func(int)) error {
	m.at("Delete")
	return m.Maildrop.Delete(ctx, marked, removed)
}

func (m panickingMaildrop) Close() error {
	err := m.Maildrop.Close()
	m.at("Close")
	return err
}

type panickingBody struct {
	io.ReadCloser
	*panicking
}

func (b panickingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n == 0 {
		b.at("Read")
	}
	return n, err
}
