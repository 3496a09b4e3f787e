package gateway

import (
	"context"
	"errors"
	"io"
	"net/netip"
)

// Adapter opens maildrops in one kind of store. It is safe for concurrent use.
type Adapter interface {
	// Open takes the lock of account's maildrop and lists it. Where the store
	// itself checks passwords, account.Upstream holds what the client sent.
	//
	// ctx bounds opening alone; the maildrop outlives it. A listing that fails
	// fails Open: an error never looks like an empty maildrop, since a client
	// would forget its UIDLs and download everything again.
	//
	// Errors meant for the client are *Error: CodeAuth when the store refuses
	// the credentials, CodeInUse when another session holds the maildrop,
	// CodeSysTemp when the store is down, CodeSysPerm when only an operator can
	// help. Anything else is answered as CodeSysTemp with a fixed text.
	Open(ctx context.Context, account Account) (Maildrop, error)
}

// Checker is an Adapter whose store can be tried without anybody's mail being
// opened. An error says what to change.
type Checker interface {
	Check(ctx context.Context) error
}

// Maildrop is the mail of one account as it was when the session entered
// TRANSACTION (RFC 1939 §5). Messages are addressed by index, 0 to Len()-1, in
// an order that is the same in every session. One goroutine uses it at a time.
type Maildrop interface {
	// Len is the number of messages, fixed until Close.
	Len() int

	// Size is the number of octets of message i as RETR sends it: line ends
	// counted as CRLF, before byte-stuffing (RFC 1939 §11).
	Size(i int) int64

	// AppendUID appends the unique-id of message i: 1 to 70 octets from 0x21 to
	// 0x7E, stable across sessions, no two alike in a maildrop (RFC 1939 §7).
	AppendUID(dst []byte, i int) []byte

	// Retrieve opens message i as it is stored; line ends may be LF or CRLF.
	// lines < 0 asks for the whole message. Otherwise the caller needs the
	// header and that many lines of the body and will not read on, so that an
	// adapter may fetch less; what it delivers must be at least that.
	//
	// The reader ends with io.EOF only when the message is complete, and its
	// Close reports what went wrong after that. Closing it early is allowed.
	// A message that is gone is Gone(err).
	Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error)

	// Delete removes the messages with the indexes in marked, which are distinct
	// and ascending, for good and on stable storage: the UPDATE state. A policy
	// may have it do something else in place of that: see OutcomeTeller. It is
	// called at most once. It tries every one of them and calls removed for each
	// that is gone, whether it was removed now or was already missing. It
	// returns nil if and only if it called removed for all.
	Delete(ctx context.Context, marked []int, removed func(i int)) error

	// Close releases the maildrop and its lock. It never removes a message.
	Close() error
}

// DeletePermitter is a Maildrop that knows before UPDATE that it cannot remove
// a message. DELE then answers with the error and sets no mark.
type DeletePermitter interface {
	PermitDelete(i int) error
}

// TrashChecker is a Maildrop that can tell whether messages are to go to a trash that
// is not there. It changes nothing.
type TrashChecker interface {
	CheckTrash(ctx context.Context) error
}

// SizeCorrecter is a Maildrop whose store may be wrong about sizes. It is told
// what RETR found, so that the next session knows. octets is as Size's.
type SizeCorrecter interface {
	CorrectSize(i int, octets int64)
}

// Account is where one user's mail lies.
type Account struct {
	Name        string      // login name in its normal form; for logs and path templates
	Adapter     Adapter     // opens the maildrop
	AdapterName string      // the adapter's in the configuration, for metrics
	Folder      string      // the folder asked for with name+folder; "" is the adapter's default
	Upstream    Credentials // what to log in with where the store checks passwords; zero otherwise

	// Of the session that opens it; zero where there is none.
	Client  netip.Addr // the client's address
	Session string     // its name in the log

	// Forwarded says that Upstream is what the client itself sent, so that a
	// refusal is Refused. Otherwise the operator's own secret was refused, which
	// is Unusable.
	Forwarded bool

	// Policy is what becomes of the mail; what it leaves open is as the adapter
	// has it.
	Policy Policy

	// Held is what the session uses as long as it has the account, such as a
	// configuration that another one has replaced; nil for nothing. It is closed
	// once: behind the maildrop, or when none could be opened.
	Held io.Closer

	// Tokens, where it is not nil, makes the tokens that Upstream.User is logged
	// in with, in place of Upstream.Password.
	Tokens Tokens
}

// Tokens makes bearer tokens for one mailbox. It is safe for concurrent use.
// Errors are as for Adapter.Open: Unauthorised where the owner of the mailbox must
// consent.
type Tokens interface {
	// Authorization names what the tokens are made of. As long as it is the
	// same, a connection that was logged in with one of them may go on after
	// that token's end.
	Authorization(ctx context.Context) (string, error)

	// Token returns a token that is good now. refused is one that the store did
	// not take, or "": another is returned then, or the same where there is no
	// hope in another.
	Token(ctx context.Context, refused string) (string, error)
}

// Credentials are what a client presents to prove who it is, or what the
// gateway presents to an upstream server. They never go to a log.
type Credentials struct {
	// Identity is the name to act as, where it differs from User: the
	// authorization identity of PLAIN (RFC 4616). Normally "".
	Identity string
	User     string // the name whose password it is
	Password string

	// Token is a bearer token in place of Password, for XOAUTH2 or OAUTHBEARER
	// (RFC 7628). Its owner is User.
	Token string

	// Certified says that a client certificate proves User, in place of Password.
	Certified bool

	// An APOP login has a digest of Timestamp and the secret in place of
	// Password (RFC 1939 §7): 32 lower-case hexadecimal digits.
	Timestamp, Digest string
}

// Accounts answers who a client is and where its mail lies. It is safe for
// concurrent use.
type Accounts interface {
	// Login checks the credentials and returns the account they open. Where
	// the store checks the password Login does not, and passes the credentials
	// on in Account.Upstream. Errors are as for Adapter.Open; a wrong name
	// and a wrong password give equal errors after equal time.
	Login(ctx context.Context, client Credentials) (Account, error)
}

// Code is a response code of RFC 2449 §8 or RFC 3206, without its brackets.
type Code string

const (
	CodeAuth Code = "AUTH" // the credentials were refused (RFC 3206 §4)
	// CodeLoginDelay is for a login too soon after the last (RFC 2449 §8.1.1).
	CodeLoginDelay Code = "LOGIN-DELAY"
	CodeInUse      Code = "IN-USE"   // another session has the maildrop (RFC 2449 §8.1.2)
	CodeSysTemp    Code = "SYS/TEMP" // try again later (RFC 3206 §3)
	CodeSysPerm    Code = "SYS/PERM" // nothing changes until somebody mends it (RFC 3206 §3)
)

// Error is a failure in words for the client, and its cause for the log alone.
type Error struct {
	Code Code   // "" for none
	Text string // one line of printable ASCII, 400 octets at most
	Err  error  // the cause, with what the operator can do about it; may be nil
}

func (e *Error) Error() string {
	s := e.Text
	if e.Code != "" {
		s = "[" + string(e.Code) + "] " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// ErrGone is in the chain of every error of Gone.
var ErrGone = errors.New("message is gone")

// Refused says that the credentials are wrong. The text is always the same, so
// that it does not tell a wrong name from a wrong password.
func Refused(err error) error {
	return &Error{Code: CodeAuth, Text: "wrong name or password", Err: err}
}

// ErrConsent is in the chain of every error of Unauthorised.
var ErrConsent = errors.New("consent is missing")

// Unauthorised says that the password was right, and that the gateway needs the
// consent of the mailbox's owner. No guess is counted.
func Unauthorised(text string, err error) error {
	return &Error{Code: CodeAuth, Text: text, Err: &consentError{err}}
}

type consentError struct{ error }

func (e *consentError) Unwrap() []error { return []error{ErrConsent, e.error} }

// InUse says that another session holds the maildrop.
func InUse(err error) error {
	return &Error{Code: CodeInUse, Text: "another session has this maildrop open, try again when it has ended", Err: err}
}

// Unavailable says that the store cannot be reached or used now.
func Unavailable(text string, err error) error {
	return &Error{Code: CodeSysTemp, Text: text, Err: err}
}

// Unusable says that the store will not work until an operator acts.
func Unusable(text string, err error) error {
	return &Error{Code: CodeSysPerm, Text: text, Err: err}
}

// Gone says that a message was removed by somebody else during the session.
func Gone(err error) error {
	if err == nil {
		err = ErrGone
	} else {
		err = errors.Join(ErrGone, err)
	}
	return &Error{Text: "message was removed by another program", Err: err}
}

// CodeOf returns the response code in err's chain, or "".
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
