package imap

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
	"pop3gw/gateway/state/cache"
	"pop3gw/gateway/uidl"
)

// Adapter opens mailboxes of one IMAP server. It is safe for concurrent use.
type Adapter struct {
	options Options // complete
	form    uidl.Form
	book    *uidl.Book // nil without a state
	link    link.Options
	locks   *gateway.Locks
	log     *slog.Logger
	memory  memory
	journal Journal // nil without a durable state
	kept    kept
	held    *budget  // of messages that came out of order
	updates counters // of sessions that removed messages, by lock

	servers *Servers
	server  *server // as other adapters know it
	counts

	// What was learnt of the server.
	greeting atomic.Pointer[imap.CapSet] // capabilities before the login, where it does not tell them unasked
	caps     atomic.Pointer[imap.CapSet] // capabilities behind the last login
	tells    atomic.Bool                 // it tells those as it answers the login
	stepwise atomic.Bool                 // it takes no commands together with the login

	hits hits
}

var (
	_ gateway.Adapter = (*Adapter)(nil)
	_ gateway.Checker = (*Adapter)(nil)
)

// New returns the adapter that o describes. Errors name the key that is wrong,
// what was found and what is allowed. kept, where listings outlive the process,
// and log may be nil.
func New(o Options, locks *gateway.Locks, kept *cache.Cache, log *slog.Logger) (*Adapter, error) {
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
	form, err := uidl.Parse(string(o.UIDL), variables)
	if err != nil {
		return nil, fmt.Errorf("uidl: %w", err)
	}
	a := &Adapter{options: o, form: form, link: l, locks: locks, log: log, held: &heldByAll, servers: cmp.Or(o.Servers, new(Servers))}
	a.server = a.servers.join(o.Address, a)
	a.kept.server = a.server
	a.memory.store = kept
	a.kept.period, a.kept.most = time.Duration(o.KeepConnections), o.MaxKeptConnections
	return a, nil
}

// Close ends what goes on between sessions, of which none may be left.
func (a *Adapter) Close() error {
	a.kept.close()
	a.memory.close()
	a.servers.leave(a.server, a)
	return nil
}

// Open implements gateway.Adapter.
func (a *Adapter) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	if account.Folder != "" && !a.options.Folders {
		return nil, gateway.Unusable("no folders here, log in with the name alone",
			fmt.Errorf("user %q asked for folder %q; set folders = true to allow it", account.Name, account.Folder))
	}
	if !printable(account.Folder) {
		return nil, gateway.Unusable("no such folder", fmt.Errorf("user %q asked for folder %q", account.Name, account.Folder))
	}
	l, err := a.credentials(ctx, account)
	if err != nil {
		return nil, err
	}
	d := &maildrop{
		adapter: a,
		policy:  account.Policy.Or(a.options.Policy),
		login:   l,
		folder:  account.Folder,
		account: a.accountName(l),
		name:    a.lockName(l, account.Folder),
		key:     a.memoryKey(l, account.Folder),
		log:     a.log.With("user", account.Name),
	}
	if err := d.leftAlone(); err != nil {
		return nil, err
	}
	err = d.open(ctx)
	if err == nil {
		err = d.nameMessages(ctx, account)
	}
	if err != nil {
		d.Close()
		return nil, d.heed(err)
	}
	d.letIn()
	return d, nil
}

// accountName names whose mail l opens, at the server. Letter case is the server's
// to interpret: what may be the same account has the same name.
func (a *Adapter) accountName(l login) string {
	owner := l.owner()
	if l.source == fromClient { // somebody who knows a master password
		owner, _, _ = strings.Cut(owner, a.options.MasterSeparator)
	}
	return strings.ToLower(owner)
}

// lockName names the mailbox. Letter case and the separators of folders are
// the server's to interpret: what may be the same mailbox has the same name.
func (a *Adapter) lockName(l login, folder string) string {
	if folder == "" {
		folder = a.options.Mailbox
	}
	return strings.ToLower(fmt.Sprintf("imap://%s@%s/%s", a.accountName(l), a.options.Address, strings.ReplaceAll(folder, ".", "/")))
}

// memoryKey names what is remembered of a mailbox, exactly.
func (a *Adapter) memoryKey(l login, folder string) string {
	return fmt.Sprintf("imap listing %q %q %q", a.options.Address, l.owner(), cmp.Or(folder, a.options.Mailbox))
}

// Check implements gateway.Checker: it connects, asks for the capabilities and
// logs out, without logging in.
func (a *Adapter) Check(ctx context.Context) error {
	conn, err := a.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Open(ctx, link.Opening{Capability: true}); err != nil {
		return a.explain("asking for capabilities", err)
	}
	if err := a.checkLogin(conn, conn.Capabilities(), login{}); err != nil {
		return err
	}
	conn.Logout(ctx) // how it ends is no sign of health
	return nil
}
