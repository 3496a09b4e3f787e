package imap

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// candidates are the names on the server that the mailbox may have, the
// likeliest first. In a folder that a client asks for, "/" and "." may each
// stand for the server's hierarchy separator.
func (d *maildrop) candidates(ctx context.Context) ([]string, error) {
	if name := d.guess(); name != "" {
		return []string{name}, nil
	}
	var separator rune
	err := d.conn.Do(ctx, func(client *imapclient.Client) error {
		roots, err := client.List("", "", nil).Collect()
		if len(roots) > 0 {
			separator = roots[0].Delim
		}
		return err
	})
	return folderNames(d.folder, separator), err
}

// guess is the mailbox's name on the server where no server need be asked, or "".
func (d *maildrop) guess() string {
	switch {
	case d.mailbox != "":
		return d.mailbox
	case d.folder == "":
		return cmp.Or(d.exact, d.adapter.options.Mailbox)
	case d.known != nil:
		return d.known.mailbox
	}
	return ""
}

// folderNames returns how folder may be called where separator is that of the
// hierarchy; 0 is none. A dot may as well be part of a name.
func folderNames(folder string, separator rune) []string {
	if separator == 0 {
		return []string{folder}
	}
	literal := strings.ReplaceAll(folder, "/", string(separator))
	split := strings.ReplaceAll(literal, ".", string(separator))
	return slices.Compact([]string{literal, split})
}

// findTrash finds the mailbox that messages are moved to: the one configured,
// or the one with the attribute \Trash (RFC 6154). Having none is no error.
func (d *maildrop) findTrash(ctx context.Context) error {
	d.trash = cmp.Or(d.policy.TrashMailbox, d.trash)
	if d.trash != "" {
		return nil
	}
	var options *imap.ListOptions
	if d.caps.Has(imap.CapSpecialUse) && d.caps.Has(imap.CapListExtended) {
		options = &imap.ListOptions{ReturnSpecialUse: true}
	}
	return d.conn.Do(ctx, func(client *imapclient.Client) error {
		list := client.List("", "*", options)
		for mailbox := list.Next(); mailbox != nil; mailbox = list.Next() {
			isTrash := slices.ContainsFunc(mailbox.Attrs, func(attr imap.MailboxAttr) bool {
				return strings.EqualFold(string(attr), string(imap.MailboxAttrTrash))
			})
			if isTrash && d.trash == "" {
				d.trash = mailbox.Mailbox
			}
		}
		return list.Close()
	})
}

// foundTrash is the trash if it is the one that the server calls so, or "".
func (d *maildrop) foundTrash() string {
	if d.policy.TrashMailbox != "" {
		return ""
	}
	return d.trash
}
