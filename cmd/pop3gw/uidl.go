package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pop3gw/gateway/merge"
	"pop3gw/gateway/state"
	"pop3gw/gateway/uidl"
)

func newUIDLCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uidl",
		Short: "Bring unique-ids in and out, and allow them to change",
		Long: `POP3 clients that leave mail on the server know each message by its unique-id, and
download it again when that changes. These commands bring the unique-ids of another
server in, print those that pop3gw gives, and allow them to change. They work while
the gateway runs, on the folder of state.url.

A list has a line for each message: unique-id, Message-ID and size in octets, with tabs
between; the size may be missing. Lines that begin with # are comments.
docs/migration.md says how to get such a list from an old server.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUIDLImportCommand(), newUIDLExportCommand(), newUIDLAllowCommand(), newUIDLListCommand())
	return cmd
}

// whose are the flags that name a maildrop.
type whose struct{ path, user, folder string }

func (w *whose) flags(cmd *cobra.Command) {
	addConfigFlag(cmd, &w.path)
	cmd.Flags().StringVarP(&w.user, "user", "u", "", "login `name` of the maildrop's owner")
	cmd.Flags().StringVar(&w.folder, "folder", "", "the `folder`, if it is not the one that the name alone opens")
}

// open makes the service of the configuration with its state, for a command. The
// caller closes it.
func (w *whose) open(log *slog.Logger) (*service, error) {
	c, err := loadConfig(configPath(w.path))
	if err != nil {
		return nil, usageError{err}
	}
	if c.State.URL == "" {
		return nil, usageError{c.source.errorf("state.url", "missing; unique-ids are kept in the folder that it names")}
	}
	kept, err := c.openStores(log)
	if err != nil {
		return nil, usageError{err}
	}
	s, err := c.build(kept, log)
	if err != nil {
		kept.close()
		return nil, usageError{err}
	}
	return s, nil
}

// owner returns the names that the maildrop has in the state.
func (w *whose) owner(s *service) (user, folder string, err error) {
	if w.user == "" {
		return "", "", usageError{errors.New("--user is missing; it names the maildrop's owner as in a login")}
	}
	account, err := s.accounts.current.directory.Find(w.user)
	if err != nil {
		return "", "", cause(err)
	}
	return account.Name, cmp.Or(w.folder, account.Folder), nil
}

func newUIDLImportCommand() *cobra.Command {
	var w whose
	cmd := &cobra.Command{
		Use:   "import --user NAME FILE",
		Short: "Give messages the unique-ids of a list",
		Long: `Read a list of unique-ids, from the file or, if that is "-", from standard input.
From the next login on, messages of NAME with a Message-ID and size of the list have
the unique-id that is there. That goes for messages that come within 30 days as well,
as while mail is still being copied. A list with a mistake changes nothing.

Messages that pop3gw has named otherwise than by the configured form keep that name.`,
		Example: "  pop3gw uidl import --user bob@example.org bob.list",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%d files are named; wanted is one, or - for standard input", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := readList(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			return w.run(cmd, func(s *service, user, folder string) error {
				if err := s.stores.uidls.Import(cmd.Context(), user, folder, list); err != nil {
					return cause(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%d unique-ids for %s; its messages have them from the next login on\n", len(list), user)
				return nil
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func readList(stdin io.Reader, name string) ([]uidl.Listed, error) {
	if name == "-" {
		return uidl.ReadList(stdin, "standard input")
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return uidl.ReadList(file, name)
}

// run does what a command is for with the maildrop that the flags name.
func (w *whose) run(cmd *cobra.Command, do func(s *service, user, folder string) error) (err error) {
	s, err := w.open(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	user, folder, err := w.owner(s)
	if err != nil {
		return err
	}
	return do(s, user, folder)
}

func newUIDLExportCommand() *cobra.Command {
	var w whose
	cmd := &cobra.Command{
		Use:   "export --user NAME",
		Short: "Print the unique-ids of a maildrop as a list",
		Long: `Open a maildrop as a login would, and print its unique-ids as a list. The user's
password is asked for, or read from standard input, only where it is the one that logs
in at the IMAP server. For a message without a Message-ID the list has "~" and a digest
of other header fields.

Where mailboxes merges folders the list has all of them, as the client sees them; what
import takes is of one folder (--folder), without what tells folders apart.`,
		Example: "  pop3gw uidl export --user bob@example.org > bob.list",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return w.run(cmd, func(s *service, user, folder string) (err error) {
				name := w.user
				if w.folder != "" {
					name += "+" + w.folder
				}
				maildrop, err := openUser(cmd.Context(), s, name, func() ([]byte, error) {
					return readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), "Password of "+user+": ")
				})
				if err != nil {
					return cause(err)
				}
				defer func() { err = errors.Join(err, maildrop.Close()) }()
				out := bufio.NewWriter(cmd.OutOrStdout())
				fmt.Fprintf(out, "# unique-ids of %s: unique-id, Message-ID, octets\n", user)
				e, ok := maildrop.(merge.Exporter)
				if !ok {
					return errors.New("this kind of maildrop cannot be listed")
				}
				if err := e.ExportUIDs(cmd.Context(), func(l uidl.Listed) error { return l.Write(out) }); err != nil {
					return cause(err)
				}
				return out.Flush()
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func newUIDLAllowCommand() *cobra.Command {
	var w whose
	var all bool
	cmd := &cobra.Command{
		Use:   "allow --user NAME | --all",
		Short: "Let the unique-ids of a maildrop change, once",
		Long: `A login is refused while most unique-ids of its maildrop would change, since each
client would download all mail again. This allows it, once: for NAME, or for all users
whose maildrops are known.

Consider first whether the old unique-ids can be had: put the mailbox back as it was,
or import a list of them.`,
		Example: "  pop3gw uidl allow --user bob@example.org",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (w.user != "") || all && w.folder != "" {
				return usageError{errors.New("name one maildrop with --user, or all of them with --all")}
			}
			if all {
				return w.allowAll(cmd)
			}
			return w.run(cmd, func(s *service, user, folder string) error {
				found, err := s.stores.uidls.Allow(cmd.Context(), user, folder)
				if err != nil {
					return cause(err)
				}
				if !found {
					return fmt.Errorf("nothing is known of a maildrop of %q, so nothing keeps its unique-ids from changing; see 'pop3gw uidl list'", user)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "the unique-ids of %s may change at the next login\n", user)
				return nil
			})
		},
	}
	w.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all maildrops that are known")
	return cmd
}

func (w *whose) allowAll(cmd *cobra.Command) (err error) {
	s, err := w.open(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	known, err := s.stores.durable.UIDLs().List(cmd.Context(), "")
	if err != nil {
		return cause(err)
	}
	for _, m := range known {
		if _, err := s.stores.uidls.Allow(cmd.Context(), m.User, m.Folder); err != nil {
			return cause(err)
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "the unique-ids of %d maildrops may change at their next login\n", len(known))
	return nil
}

func newUIDLListCommand() *cobra.Command {
	var w whose
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show what is known of maildrops",
		Long: `Show the maildrops whose unique-ids are known, of all users or of one: how many
messages were there at the last look, how many are known by the unique-ids that clients
have for them, so that they keep these whatever happens to the mail server's own
numbers, and what makes the others.`,
		Example: "  pop3gw uidl list --user bob@example.org",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s, err := w.open(slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			known, err := s.stores.durable.UIDLs().List(cmd.Context(), w.user)
			if err != nil {
				return cause(err)
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "user\tfolder\tmessages\tknown\tunique-ids\t")
			for _, m := range known {
				n, err := s.stores.uidls.Known(cmd.Context(), m.User, m.Folder)
				if err != nil {
					return cause(err)
				}
				fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\n", m.User, m.Folder, m.Count, n, formsOf(m), notesOn(m))
			}
			return table.Flush()
		},
	}
	addConfigFlag(cmd, &w.path)
	cmd.Flags().StringVarP(&w.user, "user", "u", "", "login `name` of the maildrops' owner")
	return cmd
}

func formsOf(m state.Maildrop) string {
	var forms []string
	for _, s := range m.Sources {
		forms = append(forms, strings.TrimSpace(s.Name+" "+s.Form+" "+s.Validity))
	}
	return strings.Join(forms, ", ")
}

func notesOn(m state.Maildrop) string {
	var notes []string
	if m.Allowed {
		notes = append(notes, "may change once")
	}
	if time.Now().Before(m.Match) {
		notes = append(notes, "old unique-ids are looked for until "+m.Match.Format(time.DateOnly))
	}
	return strings.Join(notes, ", ")
}
