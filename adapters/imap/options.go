package imap

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// Options are the keys of an adapter of type "imap". Zero fields have the
// default, which is given in parentheses.
type Options struct {
	// Address is the host and port of the IMAP server, such as
	// "imap.example.org:993". Without a port it is 993 where TLS is implicit and
	// 143 otherwise.
	Address string `toml:"address"`
	// TLS is how the connection is encrypted ("implicit"). With "none" passwords
	// and mail cross the network in clear text.
	TLS TLSMode `toml:"tls"`
	// CAFile names a PEM file of certificates to trust besides the system's
	// (none).
	CAFile string `toml:"ca_file"`
	// ServerName is the name that the server's certificate must bear, where it
	// is not the host of Address (that host).
	ServerName string `toml:"server_name"`
	// ConnectTimeout bounds TCP, TLS and greeting together ("30s").
	ConnectTimeout time.Duration `toml:"connect_timeout"`
	// ResponseTimeout is how long the server may be silent while an answer is
	// due ("60s").
	ResponseTimeout time.Duration `toml:"response_timeout"`

	// Prefetch is how much of the messages that follow a session asks for at a time,
	// ahead of its client, once that gets one after the other ("16MB"): twice that at
	// first, and again in time, when no more than that is to come. What the client
	// has not taken waits at the server.
	Prefetch Octets `toml:"prefetch"`

	// KeepConnections is for how long after its login a connection is kept at
	// the end of a session, for the next one of the same user with the same
	// password ("15m"). Until then a password that was changed at the server is
	// still taken.
	KeepConnections Period `toml:"keep_connections"`
	// MaxKeptConnections is how many connections are kept, of all users (256).
	MaxKeptConnections int `toml:"max_kept_connections"`

	// SendClientAddress has the server told who the client is, by ID before the
	// login (RFC 2971, x-originating-ip and x-session-id) where it has that (false).
	// Servers believe it of whom they trust.
	SendClientAddress bool `toml:"send_client_address"`

	// MaxConnections is how many connections to the server there are at a time, of
	// all adapters with its address (0, no limit but that of sessions). Those that
	// are kept count, and are the first to go. Sessions wait for one, in turns of
	// their users.
	MaxConnections int `toml:"max_connections"`
	// MaxConnectionsPerUser is the same for one account of the server (10).
	MaxConnectionsPerUser int `toml:"max_connections_per_user"`
	// Servers has the connections of several adapters counted together; nil is of
	// this one alone.
	Servers *Servers

	// Mailbox is the mailbox that is served ("INBOX").
	Mailbox string `toml:"mailbox"`
	// Folders lets a client open another mailbox as name+Folder (false).
	Folders bool `toml:"folders"`

	// Policy is for those users who have none of their own.
	gateway.Policy

	// UIDL is the form of unique-ids ("dovecot": UID and UIDVALIDITY, each as
	// eight lower-case hexadecimal digits).
	UIDL UIDL `toml:"uidl"`
	// ReuseXUIDL takes the unique-id of a message from its header field X-UIDL
	// where it has one (false).
	ReuseXUIDL bool `toml:"reuse_x_uidl"`
	// WithoutUIDPLUS is what DELE does where the server cannot expunge single
	// messages, for lack of UIDPLUS ("refuse": it answers -ERR). "guarded" takes
	// \Deleted off what others have flagged while it expunges.
	WithoutUIDPLUS WithoutUIDPLUS `toml:"without_uidplus"`

	// MasterUser logs in for users whose password the gateway has checked and
	// who have none of their own for the server (none): with PLAIN and an
	// authorization identity, or as name*master where PLAIN is not offered.
	MasterUser string `toml:"master_user"`
	// MasterPassword is the password of MasterUser.
	MasterPassword string `toml:"master_password"`
	// MasterPasswordFile names a file with MasterPassword. New does not read it.
	MasterPasswordFile string `toml:"master_password_file"`
	// MasterSeparator stands between name and master ("*").
	MasterSeparator string `toml:"master_separator"`
}

// Octets is a number of octets. None stands for 0 in a field whose zero value is
// a default.
type Octets int64

// None is no octets at all.
const None Octets = -1

// UnmarshalText takes "0", or a whole number of "KB" or "MB" of 1024 and 1024 *
// 1024 octets.
func (o *Octets) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "0" {
		*o = None
		return nil
	}
	digits, unit := strings.TrimRight(s, "KMB"), int64(1<<10)
	switch s[len(digits):] {
	case "KB":
	case "MB":
		unit = 1 << 20
	default:
		digits = ""
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n <= 0 {
		return fmt.Errorf(`found %q; allowed are "0" and sizes such as "512KB" or "16MB"`, s)
	}
	*o = Octets(n * unit)
	return nil
}

// Period is a time. Never stands for 0 in a field whose zero value is a default.
type Period time.Duration

// Never is no time at all.
const Never Period = -1

// UnmarshalText takes "0s" and times such as "15m".
func (p *Period) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf(`found %q; allowed are "0s" and times such as "15m"`, text)
	}
	if *p = Period(d); d == 0 {
		*p = Never
	}
	return nil
}

// TLSMode is how a connection is encrypted; "" is Implicit.
type TLSMode string

const (
	NoTLS    TLSMode = "none"
	StartTLS TLSMode = "starttls" // RFC 9051 §6.2.1
	Implicit TLSMode = "implicit" // RFC 8314
)

// WithoutUIDPLUS is how to remove mail without UIDPLUS; "" is Refuse.
type WithoutUIDPLUS string

const (
	Refuse  WithoutUIDPLUS = "refuse"
	Guarded WithoutUIDPLUS = "guarded" // needs Adapter.UseJournal
)

func (m *TLSMode) UnmarshalText(text []byte) error {
	return choose(m, text, NoTLS, StartTLS, Implicit)
}

func (w *WithoutUIDPLUS) UnmarshalText(text []byte) error { return choose(w, text, Refuse, Guarded) }

func choose[T ~string](value *T, text []byte, allowed ...T) error {
	if !slices.Contains(allowed, T(text)) {
		return notAllowed(string(text), allowed)
	}
	*value = T(text)
	return nil
}

func notAllowed[T ~string](found string, allowed []T) error {
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = strconv.Quote(string(a))
	}
	verb := "allowed are"
	if len(allowed) == 1 {
		verb = "allowed is"
	}
	return fmt.Errorf("found %q; %s %s", found, verb, strings.Join(quoted, ", "))
}

// complete puts the defaults in and says what is wrong. Its errors name the key.
func (o Options) complete() (Options, error) {
	if err := errors.Join(
		check("tls", &o.TLS, Implicit),
		o.Policy.Check(),
		check("uidl", &o.UIDL, "dovecot"),
		check("without_uidplus", &o.WithoutUIDPLUS, Refuse),
	); err != nil {
		return o, err
	}
	o.Policy = o.Policy.Or(gateway.DefaultPolicy())
	o.Prefetch = cmp.Or(o.Prefetch, 16<<20)
	o.KeepConnections = cmp.Or(o.KeepConnections, Period(15*time.Minute))
	o.MaxKeptConnections = cmp.Or(o.MaxKeptConnections, 256)
	o.MaxConnectionsPerUser = cmp.Or(o.MaxConnectionsPerUser, 10)
	o.Mailbox = cmp.Or(o.Mailbox, "INBOX")
	o.MasterSeparator = cmp.Or(o.MasterSeparator, "*")

	var err error
	if o.Address, err = address(o.Address, o.TLS); err != nil {
		return o, err
	}
	switch {
	case !printable(o.Mailbox):
		return o, fmt.Errorf("mailbox: found %q; allowed is UTF-8 without control characters", o.Mailbox)
	case o.ConnectTimeout < 0:
		return o, fmt.Errorf("connect_timeout: found %q; allowed are times above 0, such as \"30s\"", o.ConnectTimeout)
	case o.ResponseTimeout < 0:
		return o, fmt.Errorf("response_timeout: found %q; allowed are times above 0, such as \"60s\"", o.ResponseTimeout)
	case o.MaxKeptConnections < 0:
		return o, fmt.Errorf("max_kept_connections: found %d; allowed are numbers above 0; set keep_connections = \"0s\" for none", o.MaxKeptConnections)
	case o.MaxConnections < 0:
		return o, fmt.Errorf("max_connections: found %d; allowed are 0, which is no limit, and numbers above", o.MaxConnections)
	case o.MaxConnectionsPerUser < 0:
		return o, fmt.Errorf("max_connections_per_user: found %d; allowed are numbers above 0", o.MaxConnectionsPerUser)
	case o.MasterUser != "" && o.MasterPassword == "":
		return o, errors.New("master_password: found none; master_user needs master_password or master_password_file")
	case o.MasterUser == "" && (o.MasterPassword != "" || o.MasterPasswordFile != ""):
		return o, errors.New("master_user: found none; master_password is of no use without it")
	case o.TLS == NoTLS && (o.CAFile != "" || o.ServerName != ""):
		return o, errors.New(`tls: found "none"; ca_file and server_name need "starttls" or "implicit"`)
	}
	return o, nil
}

// check validates a choice that was set without UnmarshalText.
func check[T ~string, P interface {
	*T
	UnmarshalText([]byte) error
}](key string, value P, otherwise T) error {
	if err := value.UnmarshalText([]byte(cmp.Or(*value, otherwise))); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func address(s string, mode TLSMode) (string, error) {
	wrong := fmt.Errorf("address: found %q; allowed are a host and a port, such as %q", s, "imap.example.org:993")
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		port = "143"
		if mode == Implicit {
			port = "993"
		}
		// No port, or none and an IPv6 address with or without brackets.
		host = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", wrong
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /[]") {
		return "", wrong
	}
	return net.JoinHostPort(host, port), nil
}

// printable reports whether name can be a mailbox's.
func printable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// link returns how to connect. It reads CAFile.
func (o Options) link() (link.Options, error) {
	l := link.Options{
		Address: o.Address,
		Limits:  link.Limits{Connect: o.ConnectTimeout, Idle: o.ResponseTimeout},
	}
	switch o.TLS {
	case NoTLS:
		l.TLS = link.NoTLS
		return l, nil
	case StartTLS:
		l.TLS = link.StartTLS
	}
	l.TLSConfig = &tls.Config{
		ServerName: o.ServerName,
		MinVersion: tls.VersionTLS12,
		// One server, and a ticket for each connection.
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if o.CAFile == "" {
		return l, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return l, fmt.Errorf("ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil { // a system without any
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return l, fmt.Errorf("ca_file: found no certificate in %s; allowed is a file in PEM form", o.CAFile)
	}
	l.TLSConfig.RootCAs = roots
	return l, nil
}
