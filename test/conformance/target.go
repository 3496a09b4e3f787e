package conformance

import (
	"crypto/tls"
	"net"
	"time"
)

// Target is the server under test.
type Target struct {
	Address string // host:port of a listener that allows cleartext logins
	User    Account
	Store   Store // fills User's maildrop

	// TLS is how the server's certificate is verified. nil leaves out all
	// checks of STLS and of TLS.
	TLS         *tls.Config
	TLSAddress  string   // a listener with TLS from the first octet; "" for none
	NoCleartext Endpoint // a listener with STLS that refuses cleartext logins; zero for none

	// Accounts with passwords that are hard to send, by what is odd about
	// them; their maildrops are never read.
	Odd map[string]Account

	// A listener that offers APOP, and an account whose secret the server
	// has in plain. Zero leaves out the checks of APOP.
	APOPAddress string
	APOPUser    Account

	// Progress is told of each scenario when it has ended; may be nil.
	Progress func(format string, args ...any)

	// Other is a second account, whose password differs from User's. Zero
	// leaves out what needs it.
	Other Account
}

// Account is a login name and its password.
type Account struct{ Name, Password string }

// Endpoint is an address, and the local address to reach it from ("" for any):
// Dovecot takes a client with its own address for a secure one.
type Endpoint struct{ Address, From string }

// Store is the mail of the account under test, reached without POP3. Indexes
// are from 0 in the order of delivery.
type Store interface {
	// Fill makes the maildrop hold exactly these messages, in this order.
	Fill(messages [][]byte) error
	// Add delivers one more message.
	Add(message []byte) error
	// Remove takes the i-th message away, as another program would.
	Remove(i int) error
	// MarkSeen sets the Seen flag of the i-th message, as another program would.
	MarkSeen(i int) error
	// Messages returns what the maildrop holds now, in the order of delivery.
	Messages() ([][]byte, error)
	// Seen returns how many messages have the Seen flag.
	Seen() (int, error)
}

// patience is how long a reply may take before it counts as missing.
const patience = 15 * time.Second

func (e Endpoint) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	if e.From != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(e.From)}
	}
	return d.Dial("tcp", e.Address)
}
