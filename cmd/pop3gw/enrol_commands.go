package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pop3gw/gateway/oauth"
)

func newEnrolCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "enrol",
		Short: "Show and remove accounts that users have enrolled",
		Long: `On the page of [enrol] users make themselves a POP3 password for their mailbox. These
commands show and remove what they have made, and may run while the gateway serves.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEnrolListCommand(), newEnrolRemoveCommand())
	return cmd
}

func newEnrolListCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show who has enrolled",
		Long: `Show each enrolled account: its login name, the provider, the name at the mail server,
and when its password was made.`,
		Example: "  pop3gw enrol list",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withGrants(cmd, path, func(c *config, s *service) error {
				all, err := s.stores.durable.Accounts().List(cmd.Context())
				if err != nil {
					return cause(err)
				}
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				for _, a := range all {
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", a.Name, a.Provider, a.Upstream, a.Changed.Local().Format(time.DateTime))
				}
				table.Flush()
				if len(all) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "nobody has enrolled")
				}
				return nil
			})
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

func newEnrolRemoveCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove an enrolled account",
		Long: `Remove the account NAME, whose password ends with it, and what its user has authorised,
at the provider where that has a way. No mail is touched. The user may enrol again.`,
		Example: "  pop3gw enrol remove jane@example.org",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withGrants(cmd, path, func(c *config, s *service) error { return c.unenrol(cmd, s, args[0]) })
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

// unenrol removes an account, and its grant. The account goes even where the provider
// cannot be reached.
func (c *config) unenrol(cmd *cobra.Command, s *service, name string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	name = strings.ToLower(name) // as all of them are
	a, ok, err := s.stores.durable.Accounts().Get(ctx, name)
	switch {
	case err != nil:
		return cause(err)
	case !ok:
		return fmt.Errorf("%q has not enrolled; \"pop3gw enrol list\" shows who has", name)
	}
	if _, err := s.stores.durable.Accounts().Delete(ctx, name); err != nil {
		return cause(err)
	}
	fmt.Fprintf(out, "%s: the account is removed\n", name)
	revoked := false
	if p := s.accounts.current.providers[a.Provider]; p != nil {
		if revoked, err = s.keeper.Revoke(ctx, p, name); err == oauth.ErrNoGrant {
			return nil
		}
	} else {
		err = s.keeper.Remove(ctx, name)
	}
	switch {
	case err != nil:
		return fmt.Errorf("the authorisation is still there: %w; \"pop3gw oauth revoke %s\" tries again", err, name)
	case revoked:
		fmt.Fprintf(out, "%s: the authorisation is revoked at %q\n", name, a.Provider)
	default:
		fmt.Fprintf(out, "%s: the token is removed; %q may still list the gateway among the apps of the user\n", name, a.Provider)
	}
	return nil
}
