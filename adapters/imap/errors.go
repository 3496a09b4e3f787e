package imap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// diagnosis is what an error means.
type diagnosis struct {
	code   gateway.Code
	text   string // for the client
	advice string // for the operator, in the log; may be ""
	pause  pause  // for how long the account is left alone
}

func temporary(text, advice string) diagnosis {
	return diagnosis{code: gateway.CodeSysTemp, text: text, advice: advice}
}

func permanent(text, advice string) diagnosis {
	return diagnosis{code: gateway.CodeSysPerm, text: text, advice: advice}
}

// explain makes an error of the server, or of the way to it, one that a client
// may see. Its cause says what was being done and what the operator can do.
// nil and errors made for the client stay as they are.
func (a *Adapter) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*gateway.Error](err); ok {
		return err
	}
	return a.explainAs(a.diagnose(err), doing, err)
}

func (a *Adapter) explainAs(d diagnosis, doing string, err error) error {
	return &gateway.Error{Code: d.code, Text: d.text, Err: a.cause(d, doing, err)}
}

func (a *Adapter) cause(d diagnosis, doing string, err error) error {
	cause := fmt.Errorf("%s at %s: %w", doing, a.options.Address, quoted(err))
	if d.advice != "" {
		cause = fmt.Errorf("%w; %s", cause, d.advice)
	}
	if d.pause != (pause{}) {
		cause = &pauseError{d.pause, suggestedPause(err), cause}
	}
	return cause
}

func (a *Adapter) diagnose(err error) diagnosis {
	if e, ok := errors.AsType[*imap.Error](err); ok {
		return diagnoseAnswer(string(e.Code), e.Text)
	}
	if e, ok := errors.AsType[*link.ByeError](err); ok {
		d := diagnoseAnswer(e.Code, e.Text)
		if d == unexplained {
			d.text = "mail server closed the connection, try again later"
		}
		return d
	}
	if d, ok := a.diagnoseTLS(err); ok {
		return d
	}
	switch {
	case errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded): // which may be its cause
		return temporary("interrupted, try again later", "")
	case errors.Is(err, syscall.ECONNREFUSED):
		return temporary("mail server does not accept connections, try again later",
			"if the server is up, mend address")
	case errors.Is(err, link.ErrProtocol), errors.Is(err, link.ErrTooLong):
		return temporary("mail server sent something that is not IMAP, try again later",
			`is there an IMAP server at address, and does it want tls = "`+string(a.options.TLS)+`"?`)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return temporary("mail server cannot be found, try again later", "mend the host in address, or the DNS")
		}
		return temporary("mail server cannot be found, try again later", "the DNS does not answer")
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		advice := "the server is slow or something between drops packets; see address, connect_timeout and response_timeout"
		if a.options.TLS != Implicit { // a server that waits for TLS says nothing
			advice += `; if the port is 993, set tls to "implicit"`
		}
		return temporary("mail server does not answer in time, try again later", advice)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return temporary("mail server closed the connection, try again later", "")
	}
	return temporary("mail server cannot be used now, try again later", "")
}

// diagnoseTLS knows what stands in the way of an encrypted connection.
func (a *Adapter) diagnoseTLS(err error) (diagnosis, bool) {
	const untrusted = "mail server's certificate cannot be verified"
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return permanent(untrusted, fmt.Sprintf("the certificate is for %s: set address or server_name to one of these",
			strings.Join(certificateNames(e.Certificate), ", "))), true
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return permanent(untrusted, "the certificate has expired or is not valid yet: renew it, or set the clock"), true
		}
		return permanent(untrusted, "the server needs another certificate"), true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return permanent(untrusted, "set ca_file to the certificate of its issuer"), true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return permanent(untrusted, "set ca_file to the certificate of its issuer, or renew it"), true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return permanent("mail server does not speak TLS where the gateway expects it",
			`set tls to "starttls" if the port is 143, or mend address`), true
	}
	// The form that crypto/tls gives an alert.
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "remote error" || e.Op == "local error") {
		return permanent("mail server and gateway do not agree on TLS", "the server must offer TLS 1.2 or later"), true
	}
	switch {
	case errors.Is(err, link.ErrPreAuth):
		return permanent("mail server cannot start TLS", `set tls to "implicit" and address to the port for it`), true
	case errors.Is(err, link.ErrInjected):
		return permanent("mail server's TLS was tampered with", "the server, or somebody between, sent clear text into STARTTLS"), true
	}
	return diagnosis{}, false
}

func certificateNames(c *x509.Certificate) []string {
	names := make([]string, 0, 4)
	if c != nil {
		for _, name := range c.DNSNames {
			names = append(names, fmt.Sprintf("%.100q", name))
		}
		for _, ip := range c.IPAddresses {
			names = append(names, ip.String())
		}
	}
	switch {
	case len(names) == 0:
		return []string{"no name at all"}
	case len(names) > 8:
		return append(names[:8], "others")
	}
	return names
}

// nonexistent is the diagnosis of a mailbox that is not there.
var nonexistent = permanent("no such mailbox on the mail server", "create it, or mend mailbox or trash_mailbox")

// unexplained is the diagnosis of a NO or BAD without a known reason.
var unexplained = temporary("mail server refused, try again later", "")

// diagnoseAnswer knows the response codes of RFC 9051 §7.1 and RFC 5530, and
// some words of servers that send none.
func diagnoseAnswer(code, text string) diagnosis {
	text = strings.ToLower(text)
	has := func(words string) bool { return strings.Contains(text, words) }
	if slices.ContainsFunc(limitWords, has) {
		return throttled
	}
	switch strings.ToUpper(code) {
	case "UNAVAILABLE", "SERVERBUG":
		return failing
	case "INUSE":
		return diagnosis{gateway.CodeInUse, "mailbox is in use on the mail server, try again later", "another program has the mailbox locked", shortPause}
	case "LIMIT", "THROTTLED", "TOOMANY":
		return throttled
	case "OVERQUOTA":
		return permanent("mailbox has no room left", "the user's quota on the server is used up")
	case "CONTACTADMIN":
		return permanent("mail server asks you to contact its administrator", "see the server's own log")
	case "PRIVACYREQUIRED":
		return permanent("mail server wants the gateway to encrypt its connection", `set tls to "starttls" or "implicit"`)
	case "NONEXISTENT", "TRYCREATE":
		return nonexistent
	case "NOPERM", "AUTHORIZATIONFAILED":
		return permanent("mail server does not permit this", "the user lacks rights on the server")
	case "CORRUPTION":
		return permanent("mailbox is damaged on the mail server", "see the server's own log")
	}
	if slices.ContainsFunc(failureWords, has) {
		return failing
	}
	return unexplained
}

// quoted returns err in a form fit for a log, if it holds words of the server:
// these are quoted and cut short.
func quoted(err error) error {
	if e, ok := errors.AsType[*imap.Error](err); ok {
		return &serverError{fmt.Sprintf("server answered %s", e.Type), string(e.Code), e.Text, err}
	}
	if e, ok := errors.AsType[*link.ByeError](err); ok {
		return &serverError{"server closed the connection", e.Code, e.Text, err}
	}
	return err
}

// serverError is an error with words of the server.
type serverError struct {
	event, code, text string
	err               error
}

func (e *serverError) Error() string {
	if e.code != "" {
		return fmt.Sprintf("%s, %.40q %.200q", e.event, e.code, e.text)
	}
	return fmt.Sprintf("%s, %.200q", e.event, e.text)
}

func (e *serverError) Unwrap() error { return e.err }
