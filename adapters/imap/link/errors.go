package link

import (
	"errors"
	"fmt"
)

var (
	// ErrTimeout ended a connection that made no progress for as long as
	// Limits allow. It is a net.Error whose Timeout is true.
	ErrTimeout error = timeoutError{}

	// ErrTooLong ended a connection whose server sent a line, or literals in a
	// response, beyond Limits.
	ErrTooLong = errors.New("response is too long")

	// ErrProtocol ended a connection whose server does not keep to IMAP.
	ErrProtocol = errors.New("malformed IMAP response")

	// ErrNoMessage means that the server answered a fetch without the message:
	// it has been expunged. The connection goes on.
	ErrNoMessage = errors.New("no such message")

	// ErrBusy means that another operation is under way or a Body is still
	// open. The connection goes on.
	ErrBusy = errors.New("connection is in use")

	// ErrPreAuth means that the server calls the connection authenticated
	// before STARTTLS, which is then impossible (RFC 9051 §7.1.4).
	ErrPreAuth = errors.New("server sent PREAUTH before STARTTLS")

	// ErrInjected means that the server, or somebody between, sent clear text
	// behind the answer to STARTTLS.
	ErrInjected = errors.New("clear text behind the answer to STARTTLS")
)

// These show nothing of the line: after a body of the wrong length it may be a
// piece of the message.
var (
	errNeither = fmt.Errorf("%w: answer that is neither OK nor NO nor BAD", ErrProtocol)
	errUnasked = fmt.Errorf("%w: answer to a command that was not sent", ErrProtocol)
)

type timeoutError struct{}

func (timeoutError) Error() string   { return "server did not answer in time" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// ByeError is a connection that the server ended with a BYE response (RFC 9051
// §7.1.5), as greeting or later.
type ByeError struct {
	Code string // response code in upper case, such as "UNAVAILABLE", or ""
	Text string // what the server says; not to be trusted with more than a log
	Err  error  // how the connection ended after that; nil for a greeting
}

func (e *ByeError) Error() string {
	if e.Code != "" {
		return fmt.Sprintf("server closed the connection: [%s] %s", e.Code, e.Text)
	}
	return fmt.Sprintf("server closed the connection: %s", e.Text)
}

func (e *ByeError) Unwrap() error { return e.Err }
