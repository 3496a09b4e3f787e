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
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Conn is a connection to an IMAP server. One goroutine uses it at a time, and
// a second one gets ErrBusy; Err and Close may be called at any time.
type Conn struct {
	limits Limits
	log    *slog.Logger
	wire   *wire
	client *imapclient.Client // nil until Do needs it

	preAuth bool     // the greeting was PREAUTH
	secrets []string // see Conceal

	writing sync.Mutex
	w       io.Writer // wire, or TLS over it
	sent    sent
	tag     int // of the last command of our own

	// What follows belongs to whoever set reading, until that is false again.
	r          *reader
	kept       response  // scratch of pass
	renumbered int       // EXPUNGE responses seen
	alerted    bool      // an ALERT was logged
	bye        *ByeError // what the server said last

	mu      sync.Mutex
	changed sync.Cond
	err     error
	busy    bool         // an operation is under way
	reading bool         // somebody reads from the network
	due     []int64      // imapclient's tags that await an answer
	inbox   bytes.Buffer // responses for imapclient
	passed  int64        // octets of them in this operation
	caps    imap.CapSet  // nil while they are unknown; never changed
}

func newConn(nc net.Conn, limits Limits, log *slog.Logger) *Conn {
	w := &wire{Conn: nc, idle: limits.Idle}
	c := &Conn{limits: limits, log: log, wire: w, w: w, r: newReader(w, limits.MaxLine)}
	c.changed.L = &c.mu
	return c
}

// Do runs fn, which may call the commands of client, except IDLE and STARTTLS.
// The data of FETCH and EXPUNGE responses never reach client: what such a
// command yields is empty, and the count in client.Mailbox does not go down.
// Several commands may be sent before the first is waited for. Do returns when
// all have been answered.
//
// An *imap.Error (the server answered NO or BAD) and errors of fn's own are
// returned as they are. If the connection broke, the error is that of Err. The
// end of ctx, or of Limits.Operation, breaks it.
//
// fn must take all that a ListCommand yields, as Collect does: nothing else
// could wake imapclient again, not even Close.
func (c *Conn) Do(ctx context.Context, fn func(client *imapclient.Client) error) error {
	done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := c.startClient(); err != nil {
		return err
	}
	limit := time.AfterFunc(c.limits.Operation, func() {
		c.fail(fmt.Errorf("%w: not done within %v", ErrTimeout, c.limits.Operation))
	})
	defer limit.Stop()

	err = fn(c.client)
	c.settle()
	return c.explain(err)
}

// startClient makes imapclient, unless it is there. It gets a greeting of ours,
// as the server's has been read.
func (c *Conn) startClient() error {
	if c.client != nil {
		return nil
	}
	typ := "OK"
	if c.preAuth {
		typ = "PREAUTH"
	}
	greeting := "* " + typ
	if caps := c.Capabilities(); caps != nil {
		greeting += " [CAPABILITY"
		for name := range caps {
			greeting += " " + string(name)
		}
		greeting += "]"
	}
	c.mu.Lock()
	c.inbox.WriteString(greeting + " ready\r\n")
	c.client = imapclient.New(port{c}, nil)
	c.mu.Unlock()
	return c.explain(c.client.WaitGreeting())
}

// Capabilities are what the server said last of its capabilities, in the letter
// case of package imap; nil while it has said nothing. A login makes it nothing.
func (c *Conn) Capabilities() imap.CapSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caps
}

// setCapabilities notes a list of them as it came, in upper case; nil for none.
func (c *Conn) setCapabilities(list []byte) {
	var caps imap.CapSet
	if list != nil {
		caps = make(imap.CapSet)
		for name := range bytes.FieldsSeq(list) {
			if bytes.ContainsFunc(name, func(r rune) bool { return r > '~' || strings.ContainsRune(`(){%*"\]`, r) }) {
				continue // no atom: it would be of no use to imapclient
			}
			if string(name) == "IMAP4REV2" {
				name = []byte(imap.CapIMAP4rev2)
			}
			caps[imap.Cap(name)] = struct{}{}
		}
	}
	c.mu.Lock()
	c.caps = caps
	c.mu.Unlock()
}

// PreAuth reports whether the server called the connection authenticated from
// the start.
func (c *Conn) PreAuth() bool { return c.preAuth }

// Command sends a command that imapclient lacks, such as ID with fields of
// one's own, and waits for its end. Data in the answer are dropped. text has
// no tag, no line end and no literal. NO and BAD are *imap.Error.
func (c *Conn) Command(ctx context.Context, text string) error {
	x, err := c.exchange(ctx, text)
	if err != nil {
		return err
	}
	defer x.end()
	return x.finish()
}

// Conceal names the secrets that are going to be sent. Some servers repeat a
// command that they refuse: a text with one of the secrets is left out of errors
// and the log. It forgets those of the call before.
func (c *Conn) Conceal(secrets ...string) { c.secrets = secrets }

// told is what the server says, as it may be shown.
func (c *Conn) told(text string) string {
	if slices.ContainsFunc(c.secrets, func(secret string) bool { return repeats(text, secret) }) {
		return "(left out, it repeats a password)"
	}
	return text
}

// repeats reports whether secret stands in text, in any case, and is not merely
// a part of a word: whose password is "temp" may be told of temporary failures.
func repeats(text, secret string) bool {
	text, secret = strings.ToLower(text), strings.ToLower(secret)
	inWord := func(i int) bool { // text goes on as a word from i-1 to i
		return 0 < i && i < len(text) && alphanumeric(text[i-1]) && alphanumeric(text[i])
	}
	for from := 0; secret != ""; {
		i := strings.Index(text[from:], secret)
		if i < 0 {
			return false
		}
		from += i + 1
		if i = from - 1; !inWord(i) && !inWord(i+len(secret)) {
			return true
		}
	}
	return false
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c >= 0x80 }

// AllowLine raises Limits.MaxLine to octets, if it is less: before a plain
// SEARCH, 11 octets for each message that exists and some for the rest.
func (c *Conn) AllowLine(octets int) {
	for {
		old := c.r.maxLine.Load()
		if int64(octets) <= old || c.r.maxLine.CompareAndSwap(old, int64(octets)) {
			return
		}
	}
}

// Err is why the connection is finished, or nil while it is usable.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Idle reports whether the connection is usable, and nothing goes on over it.
func (c *Conn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && !c.busy && !c.reading && len(c.due) == 0
}

// logoutWait is how long a server has to answer LOGOUT.
const logoutWait = 5 * time.Second

// Logout says LOGOUT, waits for the answer a few seconds at most, and closes.
func (c *Conn) Logout(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, logoutWait, fmt.Errorf("%w: no answer to LOGOUT", ErrTimeout))
	defer cancel()
	err := c.Command(ctx, "LOGOUT")
	return errors.Join(err, c.Close())
}

// Close ends the connection at once, and whatever goes on over it.
func (c *Conn) Close() error {
	c.fail(net.ErrClosed)
	c.mu.Lock()
	client := c.client
	c.mu.Unlock()
	if client == nil {
		return nil
	}
	// imapclient's goroutine ends now, unless it is stuck in a command that
	// was not drained: nothing could end it then, so do not wait for ever.
	select {
	case <-client.Closed():
	case <-time.After(time.Second):
	}
	return nil
}

// begin claims the connection for an operation that lasts until done is called
// and whose context is ctx.
func (c *Conn) begin(ctx context.Context) (done func(), err error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	if c.busy {
		return nil, ErrBusy
	}
	c.busy, c.passed = true, 0
	unwatch := context.AfterFunc(ctx, func() { c.fail(ended(ctx)) })
	return func() {
		unwatch()
		c.mu.Lock()
		c.busy = false
		c.mu.Unlock()
	}, nil
}

// settle waits until imapclient has no answer to wait for. An answer may be
// due to a command that fn gave up on after another's had failed, or to the
// CAPABILITY that imapclient sends by itself after a login.
func (c *Conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && len(c.due) > 0 {
		c.changed.Wait()
	}
}

// takeStream waits until imapclient leaves the network alone, and takes it.
func (c *Conn) takeStream() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (c.reading || len(c.due) > 0) {
		c.changed.Wait()
	}
	c.reading = c.err == nil
	return c.err
}

// leaveStream gives the network back.
func (c *Conn) leaveStream() {
	c.mu.Lock()
	c.reading = false
	c.mu.Unlock()
	c.changed.Broadcast()
}

// fail ends the connection because of cause, unless it has ended already, and
// returns why it has.
func (c *Conn) fail(cause error) error {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = cause
	}
	cause = c.err
	c.mu.Unlock()
	c.changed.Broadcast()
	if first {
		// Not TLS's Close, which would wait to tell the peer.
		c.wire.Conn.Close()
		c.log.Debug("connection ended", "cause", cause)
	}
	return cause
}

// readFailed ends the connection after an error of c.r.
func (c *Conn) readFailed(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	switch written := c.wire.writeErr.Load(); {
	case errors.Is(err, ErrTooLong) || errors.Is(err, ErrProtocol):
		return c.fail(err)
	case c.bye != nil:
		bye := *c.bye
		bye.Err = err
		return c.fail(&bye)
	case written != nil && errors.Is(*written, os.ErrDeadlineExceeded):
		return c.fail(fmt.Errorf("%w: took nothing for %v", ErrTimeout, c.wire.idle))
	case written != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return c.fail(fmt.Errorf("sending to the server: %w", *written))
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.wire.limit.IsZero() && !time.Now().Before(c.wire.limit):
		return c.fail(fmt.Errorf("%w: nothing of use for %v", ErrTimeout, c.wire.within))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.fail(fmt.Errorf("%w: silent for %v", ErrTimeout, c.wire.idle))
	case err == io.ErrUnexpectedEOF:
		return c.fail(fmt.Errorf("server closed the connection: %w", err))
	}
	return c.fail(err)
}

// ended is the error for a context that has.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) || errors.Is(cause, ErrTimeout) {
		return cause // the limit, if it is one of ours, and not the caller's
	}
	return fmt.Errorf("%w (%w)", cause, err)
}

// errGaveUp is the cause where imapclient closes the connection.
var errGaveUp = fmt.Errorf("%w: imapclient gave up", ErrProtocol)

// explain finds the cause of an error of a function that called imapclient.
func (c *Conn) explain(err error) error {
	if status, ok := errors.AsType[*imap.Error](err); ok {
		status.Code, status.Text = imap.ResponseCode(c.told(string(status.Code))), c.told(status.Text)
		return err
	}
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.err {
	case nil:
		return err
	case errGaveUp:
		c.err = fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	return &brokenError{cause: c.err, err: err}
}

// brokenError reads as the cause, which imapclient has flattened to text in err.
// err stays in the chain, as it may be one of the caller's own.
type brokenError struct{ cause, err error }

func (e *brokenError) Error() string   { return e.cause.Error() }
func (e *brokenError) Unwrap() []error { return []error{e.cause, e.err} }

// send writes a command of our own.
func (c *Conn) send(tag []byte, text string) error {
	if strings.ContainsAny(text, "\r\n\x00") {
		return fmt.Errorf("control character in the command %.20q", text)
	}
	line := bytes.Join([][]byte{tag, []byte(text + "\r\n")}, []byte{' '})
	c.writing.Lock()
	defer c.writing.Unlock()
	c.write(line)
	return nil
}

// write sends p. If that fails, whoever reads the answer finds out why.
func (c *Conn) write(p []byte) {
	if _, err := c.w.Write(p); err != nil {
		c.wire.broken(err)
	}
}
