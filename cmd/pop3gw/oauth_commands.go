package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pop3gw/gateway/oauth"
	"pop3gw/gateway/state"
)

func newOAuthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "oauth",
		Short: "Authorise the gateway to read a mailbox",
		Long: `Mail servers that take no passwords take tokens. A user who logs in with one has
oauth = "PROVIDER" in the configuration, and somebody who may read the mailbox
authorises the gateway once, with 'pop3gw oauth login NAME'. From then on the gateway
refreshes the token by itself. These commands may run while it serves.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOAuthLoginCommand(), newOAuthListCommand(), newOAuthRevokeCommand())
	return cmd
}

// oneName takes the NAME of a command.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usageError{fmt.Errorf("'%s' takes one NAME; see '%s --help'", cmd.CommandPath(), cmd.CommandPath())}
	}
	return nil
}

func newOAuthLoginCommand() *cobra.Command {
	var path string
	var device, browser bool
	cmd := &cobra.Command{
		Use:   "login NAME",
		Short: "Authorise the gateway for a user",
		Long: `Have somebody authorise the gateway to read the mailbox of the user NAME, and keep the
token. Where the provider allows it for mail (Microsoft does, Google does not) this goes
by a code that is typed in on any device; else by a browser.

The browser need not be on this machine: when it has been sent to an address on its own,
which it then cannot open, copy that address from it and paste it here.`,
		Example: "  pop3gw oauth login scanner\n  pop3gw oauth login --browser scanner",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if device && browser {
				return usageError{errors.New("--device and --browser are two ways; choose one")}
			}
			return withGrants(cmd, path, func(c *config, s *service) error {
				a, err := c.find(s, args[0])
				if err != nil {
					return err
				}
				l := &oauthLogin{a, s.keeper, cmd.InOrStdin(), cmd.OutOrStdout()}
				return l.run(cmd.Context(), device, browser)
			})
		},
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().BoolVar(&device, "device", false, "by a code that is typed in on another device")
	cmd.Flags().BoolVar(&browser, "browser", false, "by a browser, even where a code would do")
	return cmd
}

// withGrants runs a command that works on what was authorised.
func withGrants(cmd *cobra.Command, path string, run func(c *config, s *service) error) error {
	c, err := loadConfig(configPath(path))
	if err != nil {
		return usageError{err}
	}
	if c.State.URL == "" {
		return usageError{c.source.errorf("state.url", "missing; set it to a folder that the gateway keeps authorisations in")}
	}
	dir, err := c.stateFolder()
	if err != nil {
		return usageError{err}
	}
	log := slog.New(slog.DiscardHandler)
	durable, err := state.Open(dir, log)
	if err != nil {
		return c.source.errorf("state.url", "%w; run this as the gateway's user, who must be able to write to %s", err, dir)
	}
	s, err := c.build(stores{durable: durable}, log)
	if err != nil {
		return errors.Join(usageError{err}, durable.Close())
	}
	defer s.close()
	return run(c, s)
}

// find finds what is to be authorised: by the name of a user, or the one that
// several have in oauth_user.
func (c *config) find(s *service, name string) (authorised, error) {
	for _, a := range authorisable(c, s) {
		if a.grant == name || slices.Contains(a.users, name) {
			return a, nil
		}
	}
	found, err := s.accounts.current.directory.Find(name)
	if err != nil {
		return authorised{}, fmt.Errorf("%w; NAME is a login name, or an oauth_user of one", cause(err))
	}
	p, grant, mailbox, ok := oauth.Source(found.Tokens)
	switch {
	case !ok:
		return authorised{}, fmt.Errorf(`user %q does not log in with a token: add oauth = "PROVIDER" to it in %s`, name, c.source.path)
	case p.Grant() != oauth.GrantUser:
		return authorised{}, fmt.Errorf("user %q needs nobody's consent: [oauth.%s] has grant = %q", name, p.Name(), p.Grant())
	}
	return authorised{grant: grant, users: []string{found.Name}, mailbox: mailbox, provider: p}, nil
}

func newOAuthListCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show who is authorised",
		Long: `Show each authorisation that users need or that is stored, and whether it is any good.
Nothing is asked of a provider. Exit status 1 says that one is missing or was ended.`,
		Example: "  pop3gw oauth list",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withGrants(cmd, path, func(c *config, s *service) error {
				return c.listGrants(cmd.Context(), s, cmd.OutOrStdout())
			})
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

func (c *config) listGrants(ctx context.Context, s *service, w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	bad := 0
	needed := authorisable(c, s)
	for _, a := range needed {
		detail, err := a.look(ctx, s.keeper)
		status := "ok"
		if err != nil {
			bad++
			status, detail = "FAIL", err.Error()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", status, a.grant, a.provider.Name(), detail)
	}
	stored, err := s.keeper.Names(ctx)
	if err != nil {
		return cause(err)
	}
	for _, name := range stored {
		if slices.ContainsFunc(needed, func(a authorised) bool { return a.grant == name }) {
			continue
		}
		status, at, detail := "ok", "", "" // of a route, or of nobody any more
		if g, err := s.keeper.Grant(ctx, name); err != nil {
			status, detail = "FAIL", err.Error()
			bad++
		} else {
			at, detail = g.Provider, describeGrant(g)
			if _, err := s.accounts.current.directory.Find(name); err != nil {
				status, detail = "warn", "no user of this name; remove it with \"pop3gw oauth revoke\""
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", status, name, at, detail)
	}
	table.Flush()
	if len(needed)+len(stored) == 0 {
		fmt.Fprintln(w, "nobody needs to authorise the gateway: no user has oauth")
	}
	if bad > 0 {
		return fmt.Errorf("%d of the authorisations are of no use", bad)
	}
	return nil
}

func newOAuthRevokeCommand() *cobra.Command {
	var path string
	var local bool
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "End an authorisation",
		Long: `End what was authorised for the user NAME, at the provider where that has a way, and
remove the token. If the provider cannot be reached, nothing is removed.`,
		Example: "  pop3gw oauth revoke scanner",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withGrants(cmd, path, func(c *config, s *service) error {
				return c.revoke(cmd.Context(), s, args[0], local, cmd.OutOrStdout())
			})
		},
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().BoolVar(&local, "local", false, "remove the token here, and ask nothing of the provider")
	return cmd
}

func (c *config) revoke(ctx context.Context, s *service, name string, local bool, w io.Writer) error {
	if a, err := c.find(s, name); err == nil {
		name = a.grant
	}
	const never = "nothing was authorised under the name %q; see 'pop3gw oauth list'"
	if local {
		err := s.keeper.Remove(ctx, name)
		if errors.Is(err, oauth.ErrNoGrant) {
			return fmt.Errorf(never, name)
		}
		if err == nil {
			fmt.Fprintf(w, "Removed. At the provider the authorisation goes on, until it is ended there.\n")
		}
		return cause(err)
	}
	const orLocal = `; "pop3gw oauth revoke --local" removes it here alone`
	g, err := s.keeper.Grant(ctx, name)
	switch {
	case errors.Is(err, oauth.ErrNoGrant):
		return fmt.Errorf(never, name)
	case err != nil:
		return fmt.Errorf("%w%s", cause(err), orLocal)
	}
	p := s.accounts.current.providers[g.Provider]
	if p == nil {
		return fmt.Errorf("%q was authorised at %q, and there is no [oauth.%s] in %s%s", name, g.Provider, g.Provider, c.source.path, orLocal)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	revoked, err := s.keeper.Revoke(ctx, p, name)
	if err != nil {
		return fmt.Errorf("%w%s", cause(err), orLocal)
	}
	if revoked {
		fmt.Fprintf(w, "Revoked, and removed.\n")
		return nil
	}
	fmt.Fprintf(w, "Removed. The provider has no way to revoke it from here")
	if p.ManageURL() != "" {
		fmt.Fprintf(w, "; whoever has authorised it can end it at %s", p.ManageURL())
	}
	fmt.Fprintf(w, ".\n")
	return nil
}

// oauthLogin is an authorisation under way.
type oauthLogin struct {
	authorised
	keeper *oauth.Keeper
	in     io.Reader
	out    io.Writer
}

// run authorises, by the way that is wanted or else the likeliest.
func (l *oauthLogin) run(ctx context.Context, device, browser bool) error {
	p := l.provider
	switch {
	case device && !p.HasDevice():
		return fmt.Errorf("[oauth.%s] has no device_url; leave --device out", p.Name())
	case browser && !p.HasCode():
		return fmt.Errorf("[oauth.%s] has no auth_url; leave --browser out", p.Name())
	}
	var g *oauth.Grant
	var err error
	if p.HasDevice() && !browser {
		g, err = l.byDevice(ctx)
	} else {
		g, err = l.byBrowser(ctx)
	}
	if err != nil {
		return err
	}
	if err := l.keeper.Put(ctx, l.grant, g); err != nil {
		return cause(err)
	}
	by := g.Identity.Email
	switch {
	case by == "":
		fmt.Fprintf(l.out, "\nAuthorised. Try it: pop3gw check --user %s\n", l.users[0])
	case strings.EqualFold(by, l.mailbox):
		fmt.Fprintf(l.out, "\nAuthorised by %s. Try it: pop3gw check --user %s\n", by, l.users[0])
	default:
		fmt.Fprintf(l.out, "\nAuthorised by %s, who must have access to the mailbox of %s.\nTry it: pop3gw check --user %s\n", by, l.mailbox, l.users[0])
	}
	return nil
}

// address is the mailbox, if it is one that a provider would know.
func (l *oauthLogin) address() string {
	if strings.Contains(l.mailbox, "@") {
		return l.mailbox
	}
	return ""
}

func (l *oauthLogin) byDevice(ctx context.Context) (*oauth.Grant, error) {
	flow, err := l.provider.StartDevice(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(l.out, "On any device, open\n\n    %s\n\nand enter the code\n\n    %s\n\nas %s, or as somebody who has access to that mailbox.\n", flow.URL, flow.Code, l.mailbox)
	if flow.CompleteURL != "" {
		fmt.Fprintf(l.out, "\nWith the code in it: %s\n", flow.CompleteURL)
	}
	if !flow.Expiry.IsZero() {
		fmt.Fprintf(l.out, "\nThe code is good until %s. ", flow.Expiry.Local().Format(time.TimeOnly))
	}
	fmt.Fprintf(l.out, "Waiting...\n")
	return flow.Wait(ctx)
}

// byBrowser waits for the browser to come to this machine, or for the address
// that it was sent to.
func (l *oauthLogin) byBrowser(ctx context.Context) (*oauth.Grant, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	back, err := l.provider.Loopback()
	listens := err == nil
	if back == nil {
		return nil, err
	}
	defer back.Close()
	flow := l.provider.StartCode(back.URL, l.address())
	fmt.Fprintf(l.out, "In a browser, open\n\n    %s\n\nand log in as %s, or as somebody who has access to that mailbox.\n\n", flow.URL, l.mailbox)
	if listens {
		fmt.Fprintf(l.out, "With a browser on this machine that is all. With another one, it is sent in the end\nto an address that it cannot open, and that")
	} else {
		fmt.Fprintf(l.out, "In the end the browser is sent to an address that")
	}
	fmt.Fprintf(l.out, " begins with %s: copy that whole\naddress from the browser, paste it here, and press Enter.\n", back.URL)

	type result struct {
		grant *oauth.Grant
		err   error
	}
	results := make(chan result, 2)
	pasted, ended := lines(ctx, l.in)
	if listens {
		go func() {
			for {
				query, err := back.Query(ctx)
				if err != nil {
					return
				}
				g, err := flow.Finish(ctx, query)
				back.Answer(err)
				if errors.Is(err, oauth.ErrState) { // of another page; ours may still come
					continue
				}
				results <- result{g, err}
				return
			}
		}()
	}
	for {
		select {
		case r := <-results:
			return r.grant, r.err
		case line := <-pasted:
			g, err := flow.FinishAddress(ctx, line)
			if _, told := errors.AsType[*oauth.Error](err); err == nil || told {
				return g, err
			}
			fmt.Fprintf(l.out, "That did not do: %v.\n", err)
		case <-ended:
			if !listens {
				return nil, errors.New("standard input ended without the address that the browser was sent to")
			}
			ended = nil // the browser may still come
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// maxPasted bounds a line of lines, in octets. Microsoft's codes have about 1,000.
const maxPasted = 16 << 10

// lines sends the lines of in that are not empty, and closes ended behind them.
func lines(ctx context.Context, in io.Reader) (sent <-chan string, ended <-chan struct{}) {
	out, end := make(chan string), make(chan struct{})
	go func() {
		defer close(end)
		for line := range boundedLines(in, maxPasted) {
			select {
			case out <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, end
}

// boundedLines are the lines of in that are neither empty nor longer than most.
func boundedLines(in io.Reader, most int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, most)
		for scanner.Scan() {
			if line := strings.TrimSpace(scanner.Text()); line != "" && !yield(line) {
				return
			}
		}
	}
}
