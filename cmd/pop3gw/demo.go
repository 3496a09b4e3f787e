package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/template"

	"github.com/spf13/cobra"
)

var (
	//go:embed demo.toml
	demoConfig string
	//go:embed demo.txt
	demoText string
	//go:embed demo.mbox
	demoMessages string
)

// demoPassword is that of both demo users.
const demoPassword = "demo"

// demo is what the templates of the demo are filled with.
type demo struct {
	Dir, Maildir, CAFile string
	POP3, POP3S, IMAP    string // addresses with their ports
	Password             string
	Messages             int
}

func newDemoCommand() *cobra.Command {
	var address, port, tlsPort string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it working, with everything embedded",
		Long: `Serve a sample Maildir and a small IMAP server inside this program on POP3, on this
machine alone, and print lines to paste. Ctrl-C ends it and removes everything.`,
		Example: "  pop3gw demo\n  pop3gw demo --port 2110 --tls-port 2995",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			// Before anything is made, so that a signal leaves nothing behind.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			var open []net.Listener
			for _, p := range []struct{ flag, port string }{{"--port", port}, {"--tls-port", tlsPort}} {
				l, err := listen(net.JoinHostPort(address, p.port))
				if err != nil {
					closeAll(open)
					return fmt.Errorf("%s %s: %w", p.flag, p.port, err)
				}
				open = append(open, l)
			}
			defer closeAll(open)
			return runDemo(ctx, open, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1", "`address` to listen on")
	cmd.Flags().StringVar(&port, "port", "1110", "`port` for POP3 with STLS; 0 is any that is free")
	cmd.Flags().StringVar(&tlsPort, "tls-port", "1995", "`port` for POP3 over TLS; 0 is any that is free")
	return cmd
}

// runDemo prepares the demo in a folder of its own, prints what to try on out,
// and serves until ctx ends. open are the listeners for STLS and for TLS.
func runDemo(ctx context.Context, open []net.Listener, out, logTo io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "pop3gw-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	messages := splitMessages(demoMessages)
	d := &demo{
		Dir: dir, Maildir: filepath.Join(dir, "maildir"), CAFile: filepath.Join(dir, "tls.crt"),
		POP3: open[0].Addr().String(), POP3S: open[1].Addr().String(),
		Password: demoPassword, Messages: len(messages),
	}
	if err := writeCertificate(d.CAFile, filepath.Join(dir, "tls.key"), open[1].Addr()); err != nil {
		return err
	}
	if err := fillMaildir(d.Maildir, messages); err != nil {
		return err
	}
	upstream, err := serveIMAP(messages)
	if err != nil {
		return err
	}
	defer upstream.Close()
	d.IMAP = upstream.address

	path := filepath.Join(dir, "config.toml")
	text, err := d.fill(demoConfig)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	log := newLogger(logTo, c.Log)
	s, err := c.build(stores{}, log)
	if err != nil {
		return err
	}
	if text, err = d.fill(demoText); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	return s.serve(ctx, open, nil)
}

// fill fills in a template.
func (d *demo) fill(text string) ([]byte, error) {
	t, err := template.New("").Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, d)
	return b.Bytes(), err
}
