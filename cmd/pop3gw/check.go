package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pop3gw/gateway"
	"pop3gw/gateway/state"
)

// checkTimeout bounds each row of the check.
const checkTimeout = 30 * time.Second

func newCheckCommand() *cobra.Command {
	var path, user string
	var offline bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Try a configuration out",
		Long: `Read the configuration, try each listener and certificate, reach each adapter, and
with --user open a maildrop. The user's password is asked for, or read from
standard input, only where it is the one that logs in at the IMAP server. Nothing
is changed. Exit status 1 says that something failed.

A port where a server answers as pop3gw does is a warning: while pop3gw runs it is
pop3gw itself. With --offline files alone are read, and no port and no server is tried;
a certificate that clients refuse is a warning then, since the gateway serves with it.`,
		Example: "  pop3gw check --config config.toml\n  pop3gw check --config config.toml --user scanner",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if offline && cmd.Flags().Changed("user") {
				return usageError{errors.New("--offline reads files alone; leave --user out")}
			}
			c, err := loadConfig(configPath(path))
			if err != nil {
				return usageError{err}
			}
			log := slog.New(slog.DiscardHandler)
			report := &report{offline: offline}
			var durable *state.DB
			if !offline {
				durable, err = c.openDurable(log)
			}
			if errors.Is(err, state.ErrEarlier) {
				report.unseen = true
				report.warn("state", c.source.errorf("state.url", "%w; what users have authorised is not looked at before", err))
			} else if err != nil {
				return err
			}
			s, err := c.build(stores{durable: durable}, log)
			if err != nil {
				return usageError{err}
			}
			defer s.close() // logs out where it logged in
			ask := func() ([]byte, error) {
				return readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), "Password of "+user+": ")
			}
			c.checkAll(cmd.Context(), s, report)
			if cmd.Flags().Changed("user") {
				report.add(checkUser(cmd.Context(), s, user, ask))
			}
			report.print(cmd.OutOrStdout())
			if failed := report.failed(); failed > 0 {
				return fmt.Errorf("%d of %d checks failed", failed, len(report.rows))
			}
			return nil
		},
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().BoolVar(&offline, "offline", false, "read files alone")
	cmd.Flags().StringVarP(&user, "user", "u", "", "login `name` whose maildrop to open")
	return cmd
}

// report is a table of what was tried.
type report struct {
	rows    []reportRow
	offline bool // nothing that is not a file was tried
	unseen  bool // what users have authorised was not looked at
}

type reportRow struct {
	status string // "ok", "warn" or "FAIL"
	what   string
	detail string
}

// add adds a row: detail, or err where there is one.
func (r *report) add(what, detail string, err error) {
	if err != nil {
		r.rows = append(r.rows, reportRow{"FAIL", what, err.Error()})
	} else {
		r.rows = append(r.rows, reportRow{"ok", what, detail})
	}
}

func (r *report) warn(what string, err error) {
	r.rows = append(r.rows, reportRow{"warn", what, err.Error()})
}

func (r *report) failed() (n int) {
	for _, row := range r.rows {
		if row.status == "FAIL" {
			n++
		}
	}
	return n
}

func (r *report) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.rows {
		fmt.Fprintf(table, "%s\t%s\t%s\n", row.status, row.what, row.detail)
	}
	table.Flush()
}

func (c *config) checkAll(ctx context.Context, s *service, r *report) {
	r.add("configuration", c.source.path, nil)
	for _, w := range append(c.warnings(), c.mechanismWarnings(s.accounts.current.directory)...) {
		r.warn("configuration", w)
	}
	c.checkCertificates(s, r)
	if !r.offline {
		c.checkListeners(ctx, s, r)
	}
	c.checkOperator(ctx, r)
	c.checkEnrolServer(ctx, s, r)
	lines, unreadable := c.checkPasswdFiles(s.accounts.current.directory)
	for _, err := range flatten(unreadable) {
		r.add("passwd-file", "", err)
	}
	for _, err := range lines {
		r.warn("passwd-file", err)
	}
	if c.State.URL != "" {
		r.add("state", c.State.URL, c.at("state.url", c.checkState(ctx)))
	}
	if r.offline {
		return
	}
	c.checkProviders(ctx, s, r)
	for _, name := range c.adapterNames() {
		checker, ok := s.accounts.current.adapters[name].Adapter.(gateway.Checker)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		err := checker.Check(ctx)
		cancel()
		r.add("adapter "+name, "reached, type "+c.adapters[name].Type, c.at("adapters."+name, cause(err)))
	}
}

// at says where in the configuration it stands what an error is about.
func (c *config) at(key string, err error) error {
	if err == nil {
		return nil
	}
	return c.source.errorf(key, "%w", err)
}

func (c *config) checkListeners(ctx context.Context, s *service, r *report) {
	for i, l := range s.listeners {
		c.checkPort(ctx, r, "listener "+l.address, "free, tls "+l.tls, l.key, l.address, func(ctx context.Context) error {
			return health(ctx, l.address, l.options.Implicit, c.Listeners[i].proxyFrom())
		})
	}
}

// checkOperator looks at [admin], if there is one.
func (c *config) checkOperator(ctx context.Context, r *report) {
	if c.Admin.Address == "" {
		return
	}
	what := "admin listener " + c.Admin.Address
	if _, err := c.adminToken(); err != nil || r.offline {
		r.add(what, "its port was not tried", err)
		return
	}
	c.checkPort(ctx, r, what, "free", "admin.address", c.Admin.Address, func(ctx context.Context) error {
		return answers(ctx, "http://"+ownAddress(c.Admin.Address)+"/healthz", "")
	})
}

// checkEnrolServer looks at [enrol], if there is one.
func (c *config) checkEnrolServer(ctx context.Context, s *service, r *report) {
	if !c.Enrol.isSet() {
		return
	}
	what := "enrolment page " + c.Enrol.PublicURL
	if _, err := c.enrolPage(s, s.log); err != nil || r.offline {
		r.add(what, "its port was not tried", err)
		return
	}
	c.checkPort(ctx, r, what, "free, at "+c.Enrol.Address, "enrol.address", c.Enrol.Address, func(ctx context.Context) error {
		return answers(ctx, "https://"+ownAddress(c.Enrol.Address)+"/", strings.TrimPrefix(c.Enrol.PublicURL, "https://"))
	})
}

// checkPort opens a port for a moment. Where another program has it, own asks whether
// that serves what pop3gw would.
func (c *config) checkPort(ctx context.Context, r *report, what, free, key, address string, own func(context.Context) error) {
	l, err := listen(address)
	if err == nil {
		l.Close()
		r.add(what, free, nil)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ownPatience)
	defer cancel()
	if errors.Is(err, syscall.EADDRINUSE) && own(ctx) == nil {
		r.warn(what, errors.New("a server that answers as pop3gw does listens here already; while pop3gw runs that is pop3gw itself"))
		return
	}
	r.add(what, "", c.source.errorf(key, "%w", err))
}

// answers asks for a page of this machine, under the name host where that is not
// empty. An error says why it is not there.
func answers(ctx context.Context, url, host string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Host = host
	client := http.Client{Transport: &http.Transport{ // no proxy of the environment
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // nothing secret is sent
	}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// ownPatience is how long a check waits for the answer of a gateway that runs on
// this machine.
const ownPatience = 500 * time.Millisecond

// checkCertificates looks at each certificate, and whether one of them is for
// the hostname of the configuration. What clients will refuse does not keep the gateway
// from serving: offline, where that is the question, it is a warning.
func (c *config) checkCertificates(s *service, r *report) {
	row := func(detail string, err error) {
		if err != nil && r.offline {
			r.warn("certificate", err)
			return
		}
		r.add("certificate", detail, err)
	}
	used := slices.ContainsFunc(s.listeners, func(l listener) bool { return l.secure != nil })
	var wrongName error
	named := c.Hostname == "" || !used
	for _, pair := range s.certificates.pairs {
		detail := pair.files.Certificate + ", good until " + pair.leaf().NotAfter.Format(time.DateOnly)
		if !used {
			detail = pair.files.Certificate + ", which no listener uses"
		}
		row(detail, pair.valid(time.Now()))
		err := pair.leaf().VerifyHostname(c.Hostname)
		named = named || err == nil
		wrongName = cmp.Or(wrongName, err)
	}
	if !named {
		row("", c.source.errorf("hostname", "%w; clients that connect to this name will refuse it: correct it, or name a certificate for it in [tls]", wrongName))
	}
}

// checkUser opens the maildrop of a login name. ask is called for the password
// where the store wants it. It returns a row of the report.
func checkUser(ctx context.Context, s *service, name string, ask func() ([]byte, error)) (what, detail string, err error) {
	what = "user " + name
	start := time.Now()
	maildrop, err := openUser(ctx, s, name, func() ([]byte, error) {
		defer func() { start = time.Now() }()
		return ask()
	})
	if err != nil {
		return what, "", cause(err)
	}
	var octets int64
	for i := range maildrop.Len() {
		octets += maildrop.Size(i)
	}
	detail = fmt.Sprintf("%d messages, %d octets, opened in %v", maildrop.Len(), octets, time.Since(start).Round(time.Millisecond))
	if c, ok := maildrop.(gateway.TrashChecker); ok {
		err = c.CheckTrash(ctx)
	}
	return what, detail, cause(cmp.Or(err, maildrop.Close()))
}

// openUser opens the maildrop of a login name. ask is called for the password where
// the store wants it.
func openUser(ctx context.Context, s *service, name string, ask func() ([]byte, error)) (gateway.Maildrop, error) {
	account, err := s.accounts.current.directory.Find(name)
	if err != nil {
		return nil, err
	}
	if account.Forwarded {
		password, err := ask()
		if err != nil {
			return nil, err
		}
		client := gateway.Credentials{User: name, Password: string(password)}
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		// Besides the store, a passwd-file may have a say.
		if account, err = s.accounts.current.directory.Login(ctx, client); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	maildrop, err := account.Adapter.Open(ctx, account)
	if err != nil && gateway.CodeOf(err) != gateway.CodeAuth { // where mail lies is the adapter's to say
		return nil, s.config.at("adapters."+account.AdapterName, cause(err))
	}
	return maildrop, err
}

// cause is err in words for the operator: what clients are told is left out
// where there is more.
func cause(err error) error {
	var e *gateway.Error
	if errors.As(err, &e) && e.Err != nil {
		return fmt.Errorf("%w (clients are told: %s)", e.Err, e.Text)
	}
	return err
}
