package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	gomaildir "github.com/emersion/go-maildir"
	"github.com/spf13/cobra"
)

//go:embed demo.toml
var demoConfig string

//go:embed demo.txt
var demoText string

//go:embed demo.mbox
var demoMessages string

// demoPassword is that of both demo users.
const demoPassword = "demo"

// demo is what the templates of the demo are filled with.
type demo struct {
	Dir               string
	IMAP              string
	Address, Port     string
	TLSPort, Password string
	Maildir, CAFile   string
	Messages          int
	Hash              string
}

func newDemoCommand() *cobra.Command {
	d := demo{Password: demoPassword}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it working, with everything embedded",
		Long: `Serve a sample Maildir and a small IMAP server inside this program on POP3, on this
machine alone, and print lines to paste. Ctrl-C ends it and removes everything.`,
		Example: "  pop3gw demo\n  pop3gw demo --port 2110 --tls-port 2995",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return d.run(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&d.Address, "address", "127.0.0.1", "address to listen on")
	cmd.Flags().StringVar(&d.Port, "port", "1110", "port for POP3 with STLS")
	cmd.Flags().StringVar(&d.TLSPort, "tls-port", "1995", "port for POP3 over TLS")
	return cmd
}

// run prepares the demo in a folder of its own, prints what to try on out, and
// serves until ctx ends.
func (d *demo) run(ctx context.Context, out, logTo io.Writer) (err error) {
	if d.Dir, err = os.MkdirTemp("", "pop3gw-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.Dir)) }()
	d.Maildir, d.CAFile = filepath.Join(d.Dir, "maildir"), filepath.Join(d.Dir, "tls.crt")
	messages := splitMessages(demoMessages)
	d.Messages = len(messages)
	if err := writeCertificate(d.CAFile, filepath.Join(d.Dir, "tls.key")); err != nil {
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

	var text bytes.Buffer
	if err := template.Must(template.New("").Parse(demoConfig)).Execute(&text, d); err != nil {
		return err
	}
	path := filepath.Join(d.Dir, "config.toml")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return err
	}
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	log := newLogger(logTo, c.Log)
	s, err := c.build(log)
	if err != nil {
		return err
	}
	open, err := c.listenAll(s)
	if err != nil {
		return usageError{fmt.Errorf("%w; or choose other ports with --port and --tls-port", errors.Unwrap(err))}
	}
	if err := template.Must(template.New("").Parse(demoText)).Execute(out, d); err != nil {
		return err
	}
	return s.serve(ctx, open, log)
}

// splitMessages takes the sample apart: each message follows a "From " line.
func splitMessages(mbox string) [][]byte {
	var messages [][]byte
	for _, m := range strings.Split("\n"+mbox, "\nFrom \n")[1:] {
		m = strings.TrimSuffix(m, "\n") + "\n"
		messages = append(messages, []byte(strings.ReplaceAll(m, "\n", "\r\n")))
	}
	return messages
}

func fillMaildir(path string, messages [][]byte) error {
	dir := gomaildir.Dir(path)
	if err := dir.Init(); err != nil {
		return err
	}
	for _, m := range messages {
		delivery, err := gomaildir.NewDelivery(path)
		if err != nil {
			return err
		}
		if _, err := delivery.Write(m); err != nil {
			return errors.Join(err, delivery.Abort())
		}
		if err := delivery.Close(); err != nil {
			return err
		}
	}
	return nil
}

// demoUpstream is an IMAP server with one account, "imap".
type demoUpstream struct {
	*imapserver.Server
	address string
}

func serveIMAP(messages [][]byte) (*demoUpstream, error) {
	user := imapmemserver.NewUser("imap", demoPassword)
	if err := user.Create("INBOX", nil); err != nil {
		return nil, err
	}
	for _, m := range messages {
		if _, err := user.Append("INBOX", literal{bytes.NewReader(m), int64(len(m))}, &imap.AppendOptions{}); err != nil {
			return nil, err
		}
	}
	mem := imapmemserver.New()
	mem.AddUser(user)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		InsecureAuth: true, // it listens on loopback alone
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go server.Serve(l)
	return &demoUpstream{server, l.Addr().String()}, nil
}

// literal is an imap.LiteralReader.
type literal struct {
	io.Reader
	size int64
}

func (l literal) Size() int64 { return l.size }

// writeCertificate makes a self-signed certificate for this machine, good for a
// day.
func writeCertificate(certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "pop3gw demo"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}
