package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// TLSMode says how a connection is encrypted.
type TLSMode int

const (
	Implicit TLSMode = iota // TLS from the first octet (RFC 8314), port 993
	StartTLS                // STARTTLS before anything else (RFC 9051 §6.2.1), port 143
	NoTLS                   // clear text
)

func (m TLSMode) String() string {
	switch m {
	case Implicit:
		return "implicit"
	case StartTLS:
		return "starttls"
	case NoTLS:
		return "none"
	}
	return fmt.Sprintf("TLSMode(%d)", int(m))
}

// Options say where to connect and how.
type Options struct {
	Address string  // host:port
	TLS     TLSMode // the zero value is Implicit

	// TLSConfig is cloned. nil verifies certificates against the system's
	// roots; an empty ServerName is the host in Address.
	TLSConfig *tls.Config

	// Dial opens the TCP connection; nil is a net.Dialer with keepalive.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Limits Limits

	// Log gets, at debug level, what the guard dropped or why a connection
	// ended; never an octet that was sent. nil is silence.
	Log *slog.Logger
}

// Limits bound what an upstream can cost. Zero fields have the defaults.
type Limits struct {
	// Connect bounds Dial as a whole: TCP, TLS, greeting. Default 30 s.
	Connect time.Duration

	// Idle is the longest wait for the next octet from the server, or for it
	// to take one, while an answer is due. Default 60 s.
	Idle time.Duration

	// Operation bounds one Do as a whole. In FetchSizes and FetchBody, where
	// the time needed grows with the mail, it is the longest time without a
	// size or an octet of the body that was asked for. Default 2 min.
	Operation time.Duration

	// MaxLine is the length in octets of a line of a response, its literals
	// not counted. Default 64 KiB. The answer to a plain SEARCH is one line:
	// see Conn.AllowLine.
	MaxLine int

	// MaxLiteral is the sum in octets of the literals in a response that goes
	// to imapclient, such as the mailbox names of LIST. Default 64 KiB. It does
	// not bound a body.
	MaxLiteral int
}

func (l Limits) withDefaults() Limits {
	if l.Connect <= 0 {
		l.Connect = 30 * time.Second
	}
	if l.Idle <= 0 {
		l.Idle = 60 * time.Second
	}
	if l.Operation <= 0 {
		l.Operation = 2 * time.Minute
	}
	if l.MaxLine <= 0 {
		l.MaxLine = 64 << 10
	}
	if l.MaxLiteral <= 0 {
		l.MaxLiteral = 64 << 10
	}
	return l
}
