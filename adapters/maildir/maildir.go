// Package maildir serves Maildirs as maildrops.
//
// The messages are the regular files in new and cur whose names do not begin
// with a dot. Nothing else is followed or opened: not directories, sockets,
// FIFOs, nor symbolic links, through which whoever may write to a Maildir could
// have the gateway read any file it has access to. Reading renames nothing, unless
// the policy has retrieved messages marked as read, and nothing is created.
//
// A message is known by its base name, the file name up to the first colon,
// because other programs rename its file whenever a flag changes, also in the
// middle of a listing. No message is left out or listed twice for that, and a
// file is removed only if it is the one that was listed.
//
// A folder that has not changed is not listed again: its directories have the
// times they had then, on file systems where that proves it. Where they have
// changed, only files are counted that were not there before. That a file was
// rewritten in place, which its directory does not show, is found out by RETR,
// which refuses it once; the next session lists it as it is.
//
// One session at a time has a Maildir: within the process by gateway.Locks,
// between processes on one host by flock(2) on the directory. What happens to a second
// one is up to gateway.LockPolicy; a session of another process is waited for at most.
package maildir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
	"pop3gw/gateway/state/cache"
	"pop3gw/gateway/uidl"
)

// Options are the settings of one maildir adapter.
type Options struct {
	// Path is the Maildir of an account, an absolute path with the placeholders
	// {user}, the login name, and {local} and {domain}, its parts before and
	// behind the last @. There is no default.
	Path string `toml:"path"`

	// Folders lets a client open another folder of a Maildir++ with the login
	// name "name+Folder". Default false.
	Folders bool `toml:"folders"`

	// FirstListingTimeout is how long a login waits while messages are counted
	// that never were before. A longer count goes on without it, and the client
	// is told to try again. Default 30s.
	FirstListingTimeout time.Duration `toml:"first_listing_timeout"`

	// Policy is for those users who have none of their own. Its trash is the folder
	// ".Trash" by default.
	gateway.Policy

	// UIDL is the form of unique-ids. Default "dovecot": those of dovecot-uidlist
	// where there is one, else file names.
	UIDL UIDL `toml:"uidl"`

	// ReuseXUIDL takes the unique-id of a message from its header field X-UIDL
	// where it has one. Default false.
	ReuseXUIDL bool `toml:"reuse_x_uidl"`
}

// DefaultFirstListingTimeout is what 0 stands for: as many clients wait.
const DefaultFirstListingTimeout = 30 * time.Second

// Adapter opens Maildirs. It is safe for concurrent use.
type Adapter struct {
	template template
	policy   gateway.Policy
	folders  bool
	locks    *gateway.Locks
	kept     *cache.Cache
	log      *slog.Logger
	counter  *counter
	patience time.Duration // of a login, for a listing
	listings listings
	makings  makings
	arranged arrangements

	uidl       UIDL
	form       uidl.Form
	reuseXUIDL bool
	book       *uidl.Book // nil without a state

	logins, listed atomic.Uint64 // that opened a folder, and those of them that had to list it

	// Of what goes on in the background.
	ctx        context.Context
	cancel     context.CancelCauseFunc
	background sync.WaitGroup
	writes     sync.Map // to the cache, by path: each is a chan struct{} that is closed at its end
}

// New returns an adapter, or what is wrong with the options. locks is shared by
// all adapters of the process, and so is kept, where listings outlive it; it may
// be nil. Nothing on disk is touched before the first Open.
func New(o Options, locks *gateway.Locks, kept *cache.Cache, log *slog.Logger) (*Adapter, error) {
	t, err := parseTemplate(o.Path)
	if err != nil {
		return nil, err
	}
	if o.FirstListingTimeout < 0 {
		return nil, fmt.Errorf("first_listing_timeout: found %q; allowed are times above 0, such as %q", o.FirstListingTimeout, "30s")
	}
	if err := o.Policy.Check(); err != nil {
		return nil, err
	}
	if sub, err := folderName(o.TrashMailbox); err != nil || sub == "" && o.TrashMailbox != "" {
		return nil, fmt.Errorf("trash_mailbox: found %q; allowed are names of folders, such as %q", o.TrashMailbox, defaultTrash)
	}
	for i, name := range o.Mailboxes.Names() {
		sub, err := folderName(name)
		if err != nil {
			return nil, fmt.Errorf("mailboxes: %w", err)
		}
		for _, before := range o.Mailboxes.Names()[:i] {
			if other, _ := folderName(before); other == sub {
				return nil, fmt.Errorf("mailboxes: found %q and %q, which are one folder; remove one of the two", before, name)
			}
		}
	}
	o.UIDL = cmp.Or(o.UIDL, DefaultUIDL)
	form, err := uidl.Parse(string(o.UIDL), variables)
	if err != nil {
		return nil, fmt.Errorf("uidl: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	// Files are counted on all cores, and by a few at least, since a cold disk
	// answers several reads sooner than one after the other.
	return &Adapter{
		template: t,
		policy:   o.Policy.Or(gateway.DefaultPolicy()),
		folders:  o.Folders,
		locks:    locks,
		kept:     kept,
		log:      log,
		counter:  newCounter(max(4, runtime.GOMAXPROCS(0))),
		patience: cmp.Or(o.FirstListingTimeout, DefaultFirstListingTimeout),
		ctx:      ctx,
		cancel:   cancel,

		uidl:       o.UIDL,
		form:       form,
		reuseXUIDL: o.ReuseXUIDL,
	}, nil
}

// Open implements gateway.Adapter. A Maildir that does not exist is
// gateway.Unusable, never an empty maildrop: a file system may not be mounted.
func (a *Adapter) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	below, err := a.template.expand(account.Name)
	if errors.Is(err, errNoDomain) {
		return nil, gateway.Unusable("log in with the full address, name@domain", err)
	}
	if err != nil {
		return nil, gateway.Unusable("this login name cannot have a maildrop here", err)
	}
	if p := account.Policy.Or(a.policy); account.Folder == "" && len(p.Mailboxes.Names()) > 0 {
		return a.openMerged(ctx, below, account, p.Mailboxes.Names())
	}
	subfolder, err := folderName(account.Folder)
	if err != nil {
		return nil, gateway.Unusable("this is no name of a folder", err)
	}
	if subfolder != "" && !a.folders {
		return nil, gateway.Unusable("folders cannot be opened here",
			fmt.Errorf("folder %q of %q: the maildir adapter has folders = false", account.Folder, account.Name))
	}
	f, err := openFolder(a.template.root, below, subfolder)
	if err != nil {
		return nil, err
	}
	d, err := a.openNamed(ctx, f, account)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// openNamed locks and lists the folder, and names its messages. If it fails the
// folder is closed, or will be.
func (a *Adapter) openNamed(ctx context.Context, f *folder, account gateway.Account) (*drop, error) {
	d, err := a.open(ctx, f, account)
	if err != nil {
		return nil, err
	}
	named, err := a.nameMessages(ctx, d, account)
	if err != nil {
		d.Close()
		return nil, err
	}
	return named, nil
}

// open locks and lists the folder. If it fails the folder is closed, or will be.
func (a *Adapter) open(ctx context.Context, f *folder, account gateway.Account) (*maildrop, error) {
	if m := a.makings.get(f.path); m != nil && !a.await(ctx, m) {
		f.close()
		return nil, m.unfinished(ctx)
	}
	unlock, err := f.lock(ctx, a.locks)
	if err != nil {
		f.close()
		return nil, err
	}
	d := &maildrop{adapter: a, policy: account.Policy.Or(a.policy), folder: f, unlock: unlock, log: a.log.With("user", account.Name, "maildir", f.path)}
	known := a.recall(f.path)
	a.logins.Add(1)
	if known != nil && known.stands && f.isLocal() {
		// It was older than a tick when it was listed: whatever has happened since
		// has given it another version.
		if now, err := f.version(); err == nil && now == known.version && !f.mended(known) {
			d.hold(known)
			d.narrow()
			return d, nil
		}
	}
	a.listed.Add(1)
	m := a.make(d, known)
	if !a.await(ctx, m) {
		a.makings.set(f.path, m)
		// The lock first: whoever finds no listing in the making asks for it.
		if m.leave(func() { d.Close(); a.makings.set(f.path, nil) }) {
			return nil, m.unfinished(ctx)
		}
		a.makings.set(f.path, nil)
		<-m.done
	}
	if m.err != nil {
		d.Close()
		return nil, fmt.Errorf("listing %s: %w", f.path, m.err)
	}
	d.hold(m.made)
	d.narrow()
	return d, nil
}

// Close ends what goes on without a session: first listings, and what is being
// kept of others. Sessions must have ended.
func (a *Adapter) Close() error {
	a.cancel(errors.New("the gateway shuts down"))
	a.background.Wait()
	a.keepDue()
	return nil
}

// Check implements gateway.Checker: it reaches the folder above the first
// placeholder of the path.
func (a *Adapter) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root := a.template.root
	info, err := os.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist; create or mount it, or correct path", root)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the gateway's user (uid %d) cannot reach %s; allow it to pass through the directories above", os.Geteuid(), root)
	case err != nil:
		return fmt.Errorf("reaching the Maildirs: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory; correct path", root)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, root, unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("the gateway's user (uid %d) may not enter %s (%w); give it execute permission", os.Geteuid(), root, err)
	}
	if a.template.below != "." {
		return nil
	}
	// A path without placeholders is itself the Maildir.
	f, err := openFolder(root, a.template.below, "")
	if err != nil {
		return err
	}
	return f.close()
}
