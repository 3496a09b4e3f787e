// Package link is a connection to an IMAP server that a gateway can rely on:
// go-imap's imapclient for the commands, and a reader of our own for what is
// bulky, the listing of sizes and the bodies of messages.
//
// The two share one stream. imapclient never touches the network: its net.Conn
// is ours, and is fed whole responses, checked and bounded, of the types it
// knows. While none of its commands awaits an answer the stream is free for a
// fetch under a tag of ours, read in constant memory; responses for imapclient
// seen meanwhile are passed on to it.
//
// imapclient has no contexts, waits for ever where a server is silent, keeps
// any line in memory, takes a connection cut inside a body for its end, and
// flattens errors to text. Here every wait is bounded, a body ends with io.EOF
// only when the server has said that it is complete, and errors carry their
// cause for errors.Is and errors.As.
package link

import (
	"context"
	"errors"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Conn is a connection to an IMAP server. One goroutine uses it at a time, and
// a second one gets ErrBusy; Err and Close may be called at any time.
type Conn struct {
}

// Dial connects, encrypts and reads the greeting, which is OK or PREAUTH.
//
// A BYE as greeting is a *ByeError, a refused STARTTLS an *imap.Error. Errors
// of the network, of TLS and of certificates are in the chain.
func Dial(ctx context.Context, opts Options) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// Do runs fn, which may call any command of client but FETCH, whose data
// never reach it, IDLE and STARTTLS. Several commands may be sent before the
// first is waited for. Do returns when all have been answered.
//
// An *imap.Error (the server answered NO or BAD) and errors of fn's own are
// returned as they are. If the connection broke, the error is that of Err. The
// end of ctx, or of Limits.Operation, breaks it.
//
// fn must drain ExpungeCommand and ListCommand: imapclient stops reading
// otherwise, until the operation limit ends it all.
func (c *Conn) Do(ctx context.Context, fn func(client *imapclient.Client) error) error {
	return errors.ErrUnsupported
}

// Command sends a command that imapclient lacks, such as ID with fields of
// one's own, and waits for its end. Data in the answer are dropped. text has
// no tag, no line end and no literal. NO and BAD are *imap.Error.
func (c *Conn) Command(ctx context.Context, text string) error { return errors.ErrUnsupported }

// AllowLine raises Limits.MaxLine to octets, if it is less: before a plain
// SEARCH, 11 octets for each message that exists and some for the rest.
func (c *Conn) AllowLine(octets int) {}

// ReadOnly reports whether the last SELECT or EXAMINE was answered with the
// response code READ-ONLY, which imapclient does not tell.
func (c *Conn) ReadOnly() bool { return false }

// Err is why the connection is finished, or nil while it is usable.
func (c *Conn) Err() error { return errors.ErrUnsupported }

// Logout says LOGOUT, waits for the answer a few seconds at most, and closes.
func (c *Conn) Logout(ctx context.Context) error { return errors.ErrUnsupported }

// Close ends the connection at once, and whatever goes on over it.
func (c *Conn) Close() error { return errors.ErrUnsupported }

// FetchSizes calls fn with the UID and the RFC822.SIZE in octets of each
// message in set ("1:*", "4,7:9"), in the server's order, as the answer comes
// in. It allocates nothing per message.
//
// Messages may be missing (expunged) or come twice: the caller counts. An
// error of fn is returned once the answer has been read to its end; fn is not
// called again. NO and BAD are *imap.Error.
func (c *Conn) FetchSizes(ctx context.Context, set string, fn func(uid imap.UID, size int64) error) error {
	return errors.ErrUnsupported
}

// Section is the part of a message that FetchBody gets. The zero value is the
// whole message, without setting \Seen.
type Section struct {
	Name     string // "" the whole message, or "HEADER", "TEXT"
	Offset   int64  // first octet of the part wanted, if Octets > 0
	Octets   int64  // how many octets are wanted; 0 is all
	MarkSeen bool   // BODY[] in place of BODY.PEEK[]: sets \Seen
}

// FetchBody asks for a message. No body, because it is gone, is ErrNoMessage;
// NO and BAD are *imap.Error; the connection goes on in these cases. The Body
// must be closed before anything else is done with the connection. ctx governs
// it until then: when it ends, so does the connection.
func (c *Conn) FetchBody(ctx context.Context, uid imap.UID, section Section) (*Body, error) {
	return nil, errors.ErrUnsupported
}

// Body is a message, or a part of one, as the server sends it.
type Body struct{}

var _ io.ReadCloser = (*Body)(nil)

// Size is the number of octets announced by the server. It may differ from
// RFC822.SIZE. It may exceed Section.Octets, if the server takes no notice of
// that: then this is the whole section.
func (b *Body) Size() int64 { return 0 }

// Read reads the body, from the network into p with no copy between where p is
// large. It returns io.EOF only after all octets were read and the server has
// completed the command with OK. A connection that ends sooner is an error,
// such as io.ErrUnexpectedEOF, never io.EOF.
func (b *Body) Read(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// Close ends the fetch. Where much of the body is still to come it ends the
// connection as well (see Err): cheaper than to read on.
func (b *Body) Close() error { return errors.ErrUnsupported }
