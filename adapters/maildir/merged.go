package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"pop3gw/gateway"
	"pop3gw/gateway/merge"
)

// openMerged opens folders of the Maildir below the root, each with its lock, as one
// maildrop.
func (a *Adapter) openMerged(ctx context.Context, below string, account gateway.Account, names []string) (gateway.Maildrop, error) {
	var parts []merge.Part
	for _, name := range names {
		d, sub, err := a.openPart(ctx, below, account, name)
		if err != nil {
			merge.New(parts).Close()
			return nil, err
		}
		parts = append(parts, merge.Part{Maildrop: d, Name: sub})
	}
	return merge.New(parts), nil
}

// openPart opens the folder of mailboxes called name. sub is its name in the Maildir,
// "" for the Maildir itself.
func (a *Adapter) openPart(ctx context.Context, below string, account gateway.Account, name string) (d *drop, sub string, err error) {
	if sub, err = folderName(name); err != nil {
		return nil, "", gateway.Unusable("a folder of this maildrop has no legal name", fmt.Errorf("mailboxes: %w", err))
	}
	f, err := openFolder(a.template.root, below, sub)
	if sub != "" && errors.Is(err, fs.ErrNotExist) {
		return nil, "", gateway.Unusable("a folder of this maildrop does not exist",
			fmt.Errorf("mailboxes: folder %q of %q: %w; create it, or take it out of mailboxes", name, account.Name, err))
	}
	if err != nil {
		return nil, "", err
	}
	if account.Folder = ""; sub != "" {
		account.Folder = name
	}
	d, err = a.openNamed(ctx, f, account)
	return d, sub, err
}
