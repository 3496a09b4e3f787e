package enrol

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"pop3gw/gateway/oauth"
)

// Options are what a Page is made of.
type Options struct {
	// URL is the address of the page as users know it: https, a host, perhaps a
	// port, and nothing else.
	URL string

	// Terms returns those in force. Each request asks for them.
	Terms func() Terms

	Accounts Accounts
	Log      *slog.Logger // nil discards
}

// Terms are what may change while a Page is served.
type Terms struct {
	// Domains are those whose addresses may be enrolled; "*" alone is any.
	Domains []string

	Providers []Provider // in the order of the page
	Settings  Settings
}

// Check says what is wrong with t, in one error for each mistake, joined.
func (t Terms) Check() error {
	var errs []error
	if len(t.Domains) == 0 {
		errs = append(errs, errors.New("no domain may be enrolled"))
	}
	for _, d := range t.Domains {
		errs = append(errs, CheckDomain(d))
	}
	if len(t.Providers) == 0 {
		errs = append(errs, errors.New("there is no provider"))
	}
	for _, p := range t.Providers {
		if !p.HasCode() || !p.Identifies() {
			errs = append(errs, errors.New("provider "+p.Name()+" does not tell who has consented"))
		}
	}
	return errors.Join(errs...)
}

// Provider is a choice on the page.
type Provider struct {
	*oauth.Provider
	Title string // as users know it, such as "Microsoft 365"
}

// Settings are what users type into their POP3 clients.
type Settings struct {
	Server string // host name
	Ports  []Port
}

// Port is one where clients can log in.
type Port struct {
	Number   int
	Security string // as clients call it: "SSL/TLS", "STARTTLS" or "none"
}

// Account is one that was enrolled.
type Account struct {
	Name            string // login name: the address, in lower case
	Upstream        string // name at the mail server: the address as the provider has it
	Password        string // hash, in a form for account.User
	Provider        string // name of Provider
	Issuer, Subject string // who enrolled it; unique together
	Changed         time.Time
}

// Accounts keeps enrolled accounts. It is safe for concurrent use.
type Accounts interface {
	// Enrolled returns the account of a name, and whether there is one.
	Enrolled(ctx context.Context, name string) (Account, bool, error)

	// Enrol keeps an account and its grant, both or neither, in place of any other
	// of its name. It is ErrTaken if that is of another user of a provider.
	Enrol(ctx context.Context, a Account, g *oauth.Grant) error

	// Reserved reports whether the operator has given a name to somebody: it can
	// not be enrolled.
	Reserved(name string) bool
}

// ErrTaken says that an account was enrolled by another user of a provider.
var ErrTaken = errors.New("the account was enrolled by another user of a provider")

// CheckURL returns the form of Options.URL that is used, without a slash at its
// end, or says what is wrong with it.
func CheckURL(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf(`found %q; wanted is "https://", a host and perhaps a port, such as "https://pop.example.org:8443"`, address)
	}
	return "https://" + strings.ToLower(u.Host), nil
}

// CheckDomain says what is wrong with one of Terms.Domains.
func CheckDomain(domain string) error {
	if domain == "*" || domain != "" && !strings.ContainsAny(domain, "@* /\\") && strings.Contains(domain, ".") {
		return nil
	}
	return fmt.Errorf(`found %q; wanted is a domain without "@", such as "example.org", or "*" for any`, domain)
}

// allows reports whether an address may be enrolled.
func (t Terms) allows(address string) bool {
	_, domain, _ := strings.Cut(address, "@")
	for _, d := range t.Domains {
		if d == "*" || strings.EqualFold(d, domain) {
			return true
		}
	}
	return false
}

var errAddress = errors.New("the address is of a form that cannot be a login name")

// loginName is the account's name for an address that the provider vouches for.
func loginName(address string) (string, error) {
	local, domain, ok := strings.Cut(address, "@")
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),:;<>[\]`, r) }
	if !ok || local == "" || domain == "" || len(address) > 254 || strings.Contains(domain, "@") || strings.ContainsFunc(address, odd) {
		return "", errAddress
	}
	return strings.ToLower(address), nil
}
