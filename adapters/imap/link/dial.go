package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"pop3gw/gateway/socket"
)

// Dial connects, encrypts and reads the greeting, which is OK or PREAUTH.
//
// A BYE as greeting is a *ByeError, a refused STARTTLS an *imap.Error. Errors
// of the network, of TLS and of certificates are in the chain.
func Dial(ctx context.Context, opts Options) (*Conn, error) {
	limits := opts.Limits.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Connect,
		fmt.Errorf("%w: no connection within %v", ErrTimeout, limits.Connect))
	defer cancel()

	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("upstream", opts.Address)
	dial := opts.Dial
	if dial == nil {
		dial = DialTCP
	}
	nc, err := dial(ctx, "tcp", opts.Address)
	if err != nil {
		if ctx.Err() != nil {
			err = ended(ctx)
		}
		return nil, err // the caller names the server
	}
	c := newConn(socket.Quick(nc), limits, log)
	stop := context.AfterFunc(ctx, func() { c.fail(ended(ctx)) })
	defer stop()

	if err := c.open(ctx, opts); err != nil {
		c.fail(err)
		return nil, err
	}
	log.Debug("connected", "tls", opts.TLS.String(), "address", nc.RemoteAddr().String())
	return c, nil
}

// DialTCP is what Options.Dial is by default.
func DialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
}

// open makes a new connection ready for commands.
func (c *Conn) open(ctx context.Context, opts Options) error {
	if opts.TLS == Implicit {
		if err := c.startTLS(ctx, opts); err != nil {
			return err
		}
	}
	preAuth, err := c.greeting()
	if err != nil {
		return fmt.Errorf("greeting of %s: %w", opts.Address, err)
	}
	if opts.TLS == StartTLS {
		if preAuth {
			return ErrPreAuth
		}
		if err := c.askForTLS(); err != nil {
			return fmt.Errorf("STARTTLS with %s: %w", opts.Address, err)
		}
		if err := c.startTLS(ctx, opts); err != nil {
			return err
		}
		// There is no second greeting, and what the first said of
		// capabilities is to be forgotten (RFC 9051 §6.2.1).
		c.setCapabilities(nil)
	}
	c.preAuth = preAuth
	return nil
}

// greeting reads the first response. BYE is a *ByeError.
func (c *Conn) greeting() (preAuth bool, err error) {
	line, err := c.line()
	if err != nil {
		return false, err
	}
	tag, rest := word(line)
	st := parseStatus(rest)
	preAuth = is(st.typ, "PREAUTH")
	switch {
	case string(tag) == "*" && is(st.typ, "BYE"):
		return false, &ByeError{Code: string(st.code), Text: string(st.text)}
	case string(tag) == "*" && (preAuth || is(st.typ, "OK")):
		c.noteStatus(st)
		return preAuth, nil
	}
	return false, fmt.Errorf("%w: not the greeting of an IMAP server: %s", ErrProtocol, excerpt(line))
}

// askForTLS sends STARTTLS and waits for OK.
func (c *Conn) askForTLS() error {
	tag := []byte("F0")
	if err := c.send(tag, "STARTTLS"); err != nil {
		return err
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		first, rest := word(line)
		if string(first) != string(tag) {
			continue // nothing else that is said in clear text counts
		}
		err, ok := c.completion(parseStatus(rest))
		switch {
		case !ok:
			return fmt.Errorf("%w: %s", ErrProtocol, excerpt(line))
		case err != nil:
			return err
		case c.r.br.Buffered() > 0:
			return ErrInjected
		}
		return nil
	}
}

// startTLS shakes hands and puts TLS between the wire and everything else.
func (c *Conn) startTLS(ctx context.Context, opts Options) error {
	config := &tls.Config{}
	if opts.TLSConfig != nil {
		config = opts.TLSConfig.Clone()
	}
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(opts.Address)
		if err != nil {
			return err
		}
		config.ServerName = host
	}
	conn := tls.Client(c.wire, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		if broken := c.Err(); broken != nil {
			err = broken
		} else if ctx.Err() != nil {
			err = ended(ctx)
		}
		return fmt.Errorf("TLS with %s: %w", opts.Address, err)
	}
	c.w = conn
	c.r.reset(conn)
	return nil
}
