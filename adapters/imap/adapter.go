package imap

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
	"pop3gw/gateway/foldername"
	"pop3gw/gateway/merge"
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
	held    *budget // of messages that came out of order

	servers *Servers
	server  *server // as other adapters know it
	counts

	// What was learnt of the server.
	greeting atomic.Pointer[imap.CapSet] // capabilities before the login, where it does not tell them unasked
	caps     atomic.Pointer[imap.CapSet] // capabilities behind the last login
	tells    atomic.Bool                 // it tells those as it answers the login
	stepwise atomic.Bool                 // it takes no commands together with the login

	hits hits

	background background
}

// background is what goes on behind sessions. The zero value is ready.
type background struct {
	sync.WaitGroup
	made   sync.Once
	ctx    context.Context
	cancel context.CancelFunc
}

// context ends with stop.
func (b *background) context() context.Context {
	b.made.Do(func() { b.ctx, b.cancel = context.WithCancel(context.Background()) })
	return b.ctx
}

// stop ends what goes on, and waits for it.
func (b *background) stop() {
	b.context()
	b.cancel()
	b.Wait()
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
	a.memory.store, a.memory.log = kept, log
	a.kept.period, a.kept.most = time.Duration(o.KeepConnections), o.MaxKeptConnections
	return a, nil
}

// Close ends what goes on between sessions, of which none may be left.
func (a *Adapter) Close() error {
	a.background.stop()
	a.kept.close()
	a.memory.close()
	a.servers.leave(a.server, a)
	return nil
}

// behind runs what is to be done behind a session, and then leave. Nobody waits.
func (a *Adapter) behind(leave func(), all []func(context.Context)) {
	if len(all) == 0 {
		leave()
		return
	}
	a.background.Go(func() {
		for _, do := range all {
			do(a.background.context())
		}
		leave()
	})
}

// Open implements gateway.Adapter.
func (a *Adapter) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	if account.Folder != "" && !a.options.Folders {
		return nil, gateway.Unusable("no folders here, log in with the name alone",
			fmt.Errorf("user %q asked for folder %q; set folders = true to allow it", account.Name, account.Folder))
	}
	name, err := foldername.Typed(account.Folder)
	if err != nil {
		return nil, gateway.Unusable("no such folder", fmt.Errorf("user %q: %w", account.Name, err))
	}
	l, err := a.credentials(ctx, account)
	if err != nil {
		return nil, err
	}
	account.Folder = name
	o := opening{a, account, l, account.Policy.Or(a.options.Policy)}
	if name == "" && len(o.policy.Mailboxes.Names()) > 0 {
		return o.merged(ctx)
	}
	d := o.maildrop(name, new(upstream))
	if err := d.leftAlone(); err != nil {
		return nil, err
	}
	if err := o.open(ctx, d, d.open); err != nil {
		return nil, err
	}
	d.letIn()
	return d, nil
}

// opening is an Open under way.
type opening struct {
	adapter *Adapter
	account gateway.Account
	login   login
	policy  gateway.Policy
}

// maildrop returns that of the mailbox called name, "" for the one configured, not
// yet open.
func (o *opening) maildrop(name string, up *upstream) *maildrop {
	return &maildrop{
		adapter:  o.adapter,
		policy:   o.policy,
		login:    o.login,
		folder:   name,
		account:  o.adapter.accountName(o.login),
		name:     o.adapter.lockName(o.login, name),
		key:      o.adapter.memoryKey(o.login, name),
		log:      o.adapter.log.With("user", o.account.Name),
		upstream: up,
	}
}

// open opens d by how, and names its messages. If that fails d is closed.
func (o *opening) open(ctx context.Context, d *maildrop, how func(context.Context) error) error {
	d.maildrops++
	err := how(ctx)
	if err == nil {
		account := o.account
		if d.exact != "" && !o.isMain(d.exact) {
			account.Folder = d.exact
		}
		err = d.nameMessages(ctx, account)
	}
	if err != nil {
		d.Close()
		return d.heed(err)
	}
	return nil
}

// isMain reports whether a mailbox is the one that is served where no others are.
func (o *opening) isMain(name string) bool {
	main := o.adapter.options.Mailbox
	return name == main || foldername.IsInbox(name) && foldername.IsInbox(main)
}

// merged opens the mailboxes of the policy, one after the other on one connection.
func (o *opening) merged(ctx context.Context) (gateway.Maildrop, error) {
	up := new(upstream)
	var parts []merge.Part
	var first *maildrop
	for _, name := range o.policy.Mailboxes.Names() {
		d := o.maildrop(name, up)
		d.folder, d.exact = "", name
		how := d.openNext
		part := merge.Part{Maildrop: d, Name: name}
		if o.isMain(name) {
			part.Name = ""
		}
		if first == nil {
			first, how = d, d.open
			if err := d.leftAlone(); err != nil {
				return nil, err
			}
		} else {
			d.trash = first.foundTrash()
		}
		if err := o.open(ctx, d, how); err != nil {
			merge.New(parts).Close()
			return nil, err
		}
		parts = append(parts, part)
	}
	first.letIn()
	return merge.New(parts), nil
}

// openNext opens the mailbox on the connection of another maildrop.
func (d *maildrop) openNext(ctx context.Context) error {
	if _, err := d.lock(ctx); err != nil {
		return err
	}
	d.known = d.adapter.memory.recall(d.key)
	opened, err := d.enter(ctx)
	if err != nil {
		return err
	}
	return d.opened(ctx, &opened)
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
func (a *Adapter) lockName(l login, name string) string {
	name = cmp.Or(name, a.options.Mailbox)
	return strings.ToLower(fmt.Sprintf("imap://%s@%s/%s", a.accountName(l), a.options.Address, strings.ReplaceAll(name, ".", "/")))
}

// memoryKey names what is remembered of a mailbox, exactly.
func (a *Adapter) memoryKey(l login, name string) string {
	return fmt.Sprintf("imap listing %q %q %q", a.options.Address, l.owner(), cmp.Or(name, a.options.Mailbox))
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
