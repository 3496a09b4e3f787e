// Package imap opens maildrops in mailboxes of an IMAP server.
package imap

import (
	"context"
	"errors"
	"log/slog"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// Adapter opens mailboxes of one IMAP server. It is safe for concurrent use.
type Adapter struct {
	options Options // complete
	link    link.Options
	locks   *gateway.Locks
	log     *slog.Logger
}

var (
	_ gateway.Adapter = (*Adapter)(nil)
	_ gateway.Checker = (*Adapter)(nil)
)

// New returns the adapter that o describes. Errors name the key that is wrong,
// what was found and what is allowed. log may be nil.
func New(o Options, locks *gateway.Locks, log *slog.Logger) (*Adapter, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	l, err := o.link()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l.Log = log
	return &Adapter{options: o, link: l, locks: locks, log: log}, nil
}

// Open implements gateway.Adapter.
func (a *Adapter) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	return nil, errors.ErrUnsupported
}

// Check implements gateway.Checker.
func (a *Adapter) Check(ctx context.Context) error { return errors.ErrUnsupported }
