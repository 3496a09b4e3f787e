package conformance

import (
	"bytes"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// IMAPAccount is a Store behind an IMAP server: the upstream of a gateway under
// test. Each operation is a session of its own, so that none is in the way of
// the gateway.
type IMAPAccount struct {
	Address string // of a listener without TLS, on loopback
	Account Account

	// Folder, where not nil, is the same mailbox as the upstream keeps it. What
	// APPEND cannot carry is delivered there: NUL, and a message of no octets.
	Folder *Maildir
}

// session logs in, selects INBOX and hands over how many messages it has.
func (a *IMAPAccount) session(do func(c *imapclient.Client, n uint32) error) error {
	c, err := imapclient.DialInsecure(a.Address, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(a.Account.Name, a.Account.Password).Wait(); err != nil {
		return fmt.Errorf("logging in to %s: %w", a.Address, err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		return fmt.Errorf("selecting INBOX: %w", err)
	}
	if err := do(c, box.NumMessages); err != nil {
		return err
	}
	return c.Logout().Wait()
}

// Fill implements Store. UIDs go on growing.
func (a *IMAPAccount) Fill(messages [][]byte) error {
	err := a.session(func(c *imapclient.Client, n uint32) error { return expunge(c, 1, n) })
	if err != nil {
		return err
	}
	// One session for a run of messages that APPEND can carry.
	for len(messages) > 0 {
		run := 0
		for run < len(messages) && appendable(messages[run]) {
			run++
		}
		if run == 0 {
			if err := a.deliver(messages[0]); err != nil {
				return err
			}
			messages = messages[1:]
			continue
		}
		err := a.session(func(c *imapclient.Client, _ uint32) error {
			return upload(c, messages[:run])
		})
		if err != nil {
			return err
		}
		messages = messages[run:]
	}
	return nil
}

// Add implements Store.
func (a *IMAPAccount) Add(message []byte) error {
	if !appendable(message) {
		return a.deliver(message)
	}
	return a.session(func(c *imapclient.Client, _ uint32) error { return upload(c, [][]byte{message}) })
}

func appendable(message []byte) bool {
	return len(message) > 0 && bytes.IndexByte(message, 0) < 0
}

// deliver puts a message into the upstream's folder and has it numbered.
func (a *IMAPAccount) deliver(message []byte) error {
	if a.Folder == nil {
		return fmt.Errorf("APPEND cannot carry a message with NUL or of no octets, and no folder is known")
	}
	if err := a.Folder.Add(message); err != nil {
		return err
	}
	return a.session(func(*imapclient.Client, uint32) error { return nil })
}

// upload appends messages without awaiting each one's reply.
func upload(c *imapclient.Client, messages [][]byte) error {
	commands := make([]*imapclient.AppendCommand, len(messages))
	for i, message := range messages {
		commands[i] = c.Append("INBOX", int64(len(message)), &imap.AppendOptions{Time: time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)})
		if _, err := commands[i].Write(message); err != nil {
			return err
		}
		if err := commands[i].Close(); err != nil {
			return err
		}
	}
	for i, message := range messages {
		if _, err := commands[i].Wait(); err != nil {
			return fmt.Errorf("APPEND of %q: %w", message[:min(60, len(message))], err)
		}
	}
	return nil
}

// expunge removes the messages from first to last, none where last is 0.
func expunge(c *imapclient.Client, first, last uint32) error {
	if last == 0 {
		return nil
	}
	flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}
	var set imap.SeqSet
	set.AddRange(first, last)
	if err := c.Store(set, flags, nil).Close(); err != nil {
		return err
	}
	return c.Expunge().Close()
}

// Remove implements Store.
func (a *IMAPAccount) Remove(i int) error {
	return a.session(func(c *imapclient.Client, _ uint32) error { return expunge(c, uint32(i+1), uint32(i+1)) })
}

// MarkSeen implements Store.
func (a *IMAPAccount) MarkSeen(i int) error {
	return a.session(func(c *imapclient.Client, _ uint32) error {
		flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagSeen}}
		return c.Store(imap.SeqSetNum(uint32(i+1)), flags, nil).Close()
	})
}

// Messages implements Store.
func (a *IMAPAccount) Messages() ([][]byte, error) {
	var messages [][]byte
	err := a.session(func(c *imapclient.Client, n uint32) error {
		if n == 0 {
			return nil
		}
		var all imap.SeqSet
		all.AddRange(1, n)
		whole := &imap.FetchItemBodySection{Peek: true}
		got, err := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
		for _, m := range got {
			messages = append(messages, m.FindBodySection(whole))
		}
		return err
	})
	return messages, err
}

// Seen implements Store.
func (a *IMAPAccount) Seen() (int, error) {
	seen := 0
	err := a.session(func(c *imapclient.Client, _ uint32) error {
		found, err := c.Search(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagSeen}}, nil).Wait()
		if err == nil {
			seen = len(found.AllSeqNums())
		}
		return err
	})
	return seen, err
}
