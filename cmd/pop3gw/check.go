package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pop3gw/gateway"
)

// checkTimeout bounds each row of the check.
const checkTimeout = 30 * time.Second

func newCheckCommand() *cobra.Command {
	var path, user string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Try a configuration out",
		Long: `Read the configuration, try each listener and certificate, reach each adapter, and
with --user log in and open a maildrop: the password is asked for, or read from
standard input. Nothing is changed. Exit status 1 says that something failed.

The listeners cannot be tried while pop3gw runs: a port in use is then reported.`,
		Example: "  pop3gw check --config config.toml\n  pop3gw check --config config.toml --user scanner",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadConfig(configPath(path))
			if err != nil {
				return usageError{err}
			}
			log := slog.New(slog.DiscardHandler)
			s, err := c.build(log)
			if err != nil {
				return usageError{err}
			}
			var password []byte
			if user != "" {
				if password, err = readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), "Password of "+user+": "); err != nil {
					return err
				}
			}
			report := &report{}
			c.checkAll(cmd.Context(), s, report)
			if user != "" {
				checkUser(cmd.Context(), s, gateway.Credentials{User: user, Password: string(password)}, report)
			}
			report.print(cmd.OutOrStdout())
			if failed := report.failed(); failed > 0 {
				return fmt.Errorf("%d of %d checks failed", failed, len(report.rows))
			}
			return nil
		},
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().StringVarP(&user, "user", "u", "", "login name whose maildrop to open")
	return cmd
}

// report is a table of what was tried.
type report struct{ rows []reportRow }

type reportRow struct {
	what   string
	detail string
	err    error
}

func (r *report) add(what, detail string, err error) {
	r.rows = append(r.rows, reportRow{what, detail, err})
}

func (r *report) failed() (n int) {
	for _, row := range r.rows {
		if row.err != nil {
			n++
		}
	}
	return n
}

func (r *report) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.rows {
		if row.err != nil {
			fmt.Fprintf(table, "FAIL\t%s\t%v\n", row.what, row.err)
		} else {
			fmt.Fprintf(table, "ok\t%s\t%s\n", row.what, row.detail)
		}
	}
	table.Flush()
}

func (c *config) checkAll(ctx context.Context, s *service, r *report) {
	r.add("config", c.source.path, nil)
	if c.TLS.Certificate != "" {
		detail, err := c.checkCertificate(s)
		r.add("certificate", detail, err)
	}
	for _, l := range s.listeners {
		nl, err := c.listen(l)
		if err == nil {
			nl.Close()
		}
		r.add("listener "+l.address, "free, tls "+l.tls, err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.adapters)) {
		checker, ok := s.adapters[name].(gateway.Checker)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		err := checker.Check(ctx)
		cancel()
		r.add("adapter "+name, "reached, type "+c.adapters[name].Type, cause(err))
	}
}

// checkCertificate looks at the certificate of the first listener with TLS.
func (c *config) checkCertificate(s *service) (detail string, err error) {
	for _, l := range s.listeners {
		if l.options.TLS == nil {
			continue
		}
		leaf, err := x509.ParseCertificate(l.options.TLS.Certificates[0].Certificate[0])
		if err != nil {
			return "", err
		}
		if now := time.Now(); now.After(leaf.NotAfter) {
			return "", fmt.Errorf("%s expired on %s; renew it", c.TLS.Certificate, leaf.NotAfter.Format(time.DateOnly))
		} else if now.Before(leaf.NotBefore) {
			return "", fmt.Errorf("%s is good only from %s; is this machine's clock right?", c.TLS.Certificate, leaf.NotBefore.Format(time.DateOnly))
		}
		if c.Hostname != "" {
			if err := leaf.VerifyHostname(c.Hostname); err != nil {
				return "", fmt.Errorf("%w; clients that connect to the hostname of this configuration will refuse it", err)
			}
		}
		return fmt.Sprintf("%s, good until %s", c.TLS.Certificate, leaf.NotAfter.Format(time.DateOnly)), nil
	}
	return "no listener uses it", nil
}

func checkUser(ctx context.Context, s *service, client gateway.Credentials, r *report) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	what := "user " + client.User
	account, err := s.server.Accounts.Login(ctx, client)
	if err != nil {
		r.add(what, "", cause(err))
		return
	}
	start := time.Now()
	maildrop, err := account.Adapter.Open(ctx, account)
	if err != nil {
		r.add(what, "", cause(err))
		return
	}
	defer maildrop.Close()
	var octets int64
	for i := range maildrop.Len() {
		octets += maildrop.Size(i)
	}
	r.add(what, fmt.Sprintf("%d messages, %d octets, opened in %v", maildrop.Len(), octets, time.Since(start).Round(time.Millisecond)), nil)
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
