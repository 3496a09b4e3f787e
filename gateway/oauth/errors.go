package oauth

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Kind is who can mend an error.
type Kind int

const (
	Temporary Kind = iota // nobody: it may go by itself
	Consent               // whoever's mail it is, by a new consent
	Operator              // who runs the gateway
)

// Error is why a provider gave no token. Its text names no secret, and says what
// to do as far as that is the same whoever reads it.
type Error struct {
	Provider string // its name in the configuration
	Doing    string
	Code     string // of RFC 6749 §5.2 and its like; "" where there is none
	Kind     Kind
	Wait     time.Duration // as the provider asks for; 0 is not at all
	detail   string        // what it said, or what happened
	advice   string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s at OAuth provider %q: %s", e.Doing, e.Provider, e.detail)
	if e.advice != "" {
		s += "; " + e.advice
	}
	return s
}

// maxSkew is how far clocks may be apart before it is worth a word.
const maxSkew = 2 * time.Minute

// explain makes an error of a request one that says what to do. secrets, besides
// those of the client, are left out of what the provider said.
func (p *Provider) explain(doing string, err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	e := &Error{Provider: p.name, Doing: doing}
	if answer, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		p.explainAnswer(e, answer, append(secrets, p.options.ClientSecret))
	} else {
		p.explainFailure(e, err)
	}
	if advice := p.clockAdvice(); advice != "" && e.Kind != Temporary {
		e.advice = strings.TrimPrefix(e.advice+"; "+advice, "; ")
	}
	return e
}

// clockAdvice is what to do about this machine's clock, by the last answer of the
// provider; "" is nothing.
func (p *Provider) clockAdvice() string {
	skew := time.Duration(p.skew.Load())
	if skew.Abs() <= maxSkew {
		return ""
	}
	direction := "behind"
	if skew < 0 {
		direction = "ahead of"
	}
	return fmt.Sprintf("this machine's clock is %v %s the provider's: set it", skew.Abs().Round(time.Second), direction)
}

// explainAnswer knows the codes of RFC 6749 §4.1.2.1 and §5.2, RFC 8628 §3.5 and
// OpenID Connect Core §3.1.2.6.
func (p *Provider) explainAnswer(e *Error, answer *oauth2.RetrieveError, secrets []string) {
	code, description := answer.ErrorCode, answer.ErrorDescription
	if code == "" { // package jwt leaves it in the body
		var body struct{ Error, Error_Description string }
		json.Unmarshal(answer.Body, &body)
		code, description = body.Error, body.Error_Description
	}
	status := 0
	if answer.Response != nil {
		status = answer.Response.StatusCode
		if s, err := strconv.Atoi(answer.Response.Header.Get("Retry-After")); err == nil && s > 0 {
			e.Wait = min(time.Duration(s)*time.Second, time.Hour)
		}
	}
	e.Code = code
	e.detail = fmt.Sprintf("it answered %d", status)
	if code != "" {
		e.detail = fmt.Sprintf("it answered %.40q", code)
	}
	if description != "" && !containsAny(description, secrets) {
		e.detail += fmt.Sprintf(" %.300q", description)
	}
	e.Kind = Operator
	switch code {
	case "invalid_grant", "bad_verification_code":
		e.Kind = Consent
		if p.options.Grant == GrantServiceAccount {
			e.Kind, e.advice = Operator, "the mailbox must be in the domain that the service account may act for"
		}
	case "interaction_required", "consent_required", "login_required", "account_selection_required":
		e.Kind = Consent
	case "access_denied":
		e.Kind, e.advice = Consent, "the consent was refused: begin again, and agree to it"
		if p.options.Grant == GrantServiceAccount {
			e.Kind, e.advice = Operator, "let the service account act for the domain"
		}
	case "expired_token":
		e.Kind, e.advice = Consent, "the code was not used in time: begin again"
	case "invalid_client":
		e.advice = fmt.Sprintf("mend client_id, client_secret or client_auth in [oauth.%s]; a secret may have expired", p.name)
	case "unauthorized_client":
		e.advice = fmt.Sprintf("mend client_id or tenant in [oauth.%s], or allow this way to get tokens where the client is registered", p.name)
		if p.options.Grant == GrantServiceAccount {
			e.advice = "let the service account act for the domain, with the scope " + strings.Join(p.options.Scopes, " ")
		}
	case "invalid_scope":
		e.advice = fmt.Sprintf("mend scopes in [oauth.%s]", p.name)
	case "redirect_uri_mismatch":
		e.advice = fmt.Sprintf("register the redirect address where the client is registered, or mend redirect_url in [oauth.%s]", p.name)
	case "unsupported_grant_type":
		e.advice = fmt.Sprintf("mend token_url in [oauth.%s], or get tokens in another way", p.name)
	case "temporarily_unavailable", "server_error", "slow_down":
		e.Kind = Temporary
	case "invalid_request":
		e.advice = "see how the client is registered"
	default:
		e.advice = fmt.Sprintf("mend token_url in [oauth.%s], or see how the client is registered", p.name)
	}
	// Microsoft has the same code for many things, and numbers for each.
	switch {
	case strings.Contains(description, "AADSTS700016"), strings.Contains(description, "AADSTS700038"):
		e.Kind, e.advice = Operator, fmt.Sprintf("mend client_id or tenant in [oauth.%s]", p.name)
	case strings.Contains(description, "AADSTS7000222"):
		e.Kind, e.advice = Operator, fmt.Sprintf("the client secret has expired: make another one, and set client_secret in [oauth.%s]", p.name)
	case strings.Contains(description, "AADSTS7000218"):
		e.Kind, e.advice = Operator, "set client_secret, or allow public client flows where the client is registered"
	case strings.Contains(description, "AADSTS700025"):
		e.Kind, e.advice = Operator, fmt.Sprintf("remove client_secret from [oauth.%s], or allow no public client flows where the client is registered", p.name)
	case strings.Contains(description, "AADSTS90002"):
		e.Kind, e.advice = Operator, fmt.Sprintf("mend tenant in [oauth.%s]", p.name)
	case strings.Contains(description, "AADSTS65001"):
		e.Kind = Consent
	case status == http.StatusTooManyRequests || status >= 500:
		e.Kind, e.advice = Temporary, ""
	}
}

// explainFailure is for what was no answer.
func (p *Provider) explainFailure(e *Error, err error) {
	e.detail = describeFailure(err)
	if e.detail == "" {
		e.detail = "it answered with something that is no token"
		e.Kind, e.advice = Operator, fmt.Sprintf("is token_url in [oauth.%s] right?", p.name)
		return
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		e.advice = "its certificate has expired or is not valid yet: set this machine's clock, if it is off"
	} else if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		e.Kind, e.advice = Operator, fmt.Sprintf("set ca_file in [oauth.%s] to the certificate of its issuer", p.name)
	} else if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		e.advice = fmt.Sprintf("mend the address in [oauth.%s], or the DNS", p.name)
	}
}

// describeFailure describes an error of the network, without the address that was asked:
// it may hold a secret. "" is for other errors.
func describeFailure(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "it does not answer in time"
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "it does not answer in time"
	}
	type wrapper interface{ Unwrap() error }
	for ; err != nil; err = errors.Unwrap(err) {
		switch err.(type) {
		case *net.OpError, *net.DNSError, x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError:
			return err.Error()
		}
		if err == context.Canceled {
			return "interrupted"
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return "it closed the connection"
		}
		if _, ok := err.(wrapper); !ok && strings.HasPrefix(err.Error(), "net/http:") {
			return err.Error()
		}
	}
	return ""
}

// readError reads an answer that is no success.
func readError(response *http.Response) *oauth2.RetrieveError {
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	var answer struct{ Error, Error_Description string }
	json.Unmarshal(body, &answer)
	return &oauth2.RetrieveError{Response: response, Body: body, ErrorCode: answer.Error, ErrorDescription: answer.Error_Description}
}

func containsAny(s string, secrets []string) bool {
	for _, secret := range secrets {
		if secret != "" && strings.Contains(s, secret) {
			return true
		}
	}
	return false
}

// parseKey reads the private key of a service account.
func parseKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not in PEM form")
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if rsaKey, ok := key.(*rsa.PrivateKey); ok {
			return rsaKey, nil
		}
		return nil, errors.New("it is no RSA key")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is no private key")
	}
	return key, nil
}
