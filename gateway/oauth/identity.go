package oauth

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// personalTenant is the directory of Microsoft's personal accounts.
const personalTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"

// claims are those of an id_token that say who it is about.
type claims struct {
	Email         string `json:"email"`
	EmailVerified any    `json:"email_verified"`     // a boolean; a text at some
	Username      string `json:"preferred_username"` // Microsoft's name to log in with
	Tenant        string `json:"tid"`                // Microsoft's directory
	Provider      string `json:"idp"`                // and whose user it is, if of another one
	DomainOwner   any    `json:"xms_edov"`           // Microsoft has verified the domain of Email
	Workspace     string `json:"hd"`                 // Google's organisation that the user belongs to
}

// googleIssuer is that of Google.
const googleIssuer = "https://accounts.google.com"

// identify verifies an id_token.
func (p *Provider) identify(ctx context.Context, raw, nonce string) (Identity, error) {
	const doing = "verifying who has consented"
	fail := func(detail, advice string) (Identity, error) {
		return Identity{}, &Error{Provider: p.name, Doing: doing, Kind: Operator, detail: detail, advice: advice}
	}
	microsoft := strings.Contains(p.options.Issuer, "{tenantid}")
	verifier := oidc.NewVerifier(p.options.Issuer, p.keys, &oidc.Config{
		ClientID: p.options.ClientID, SkipIssuerCheck: microsoft,
		SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256, oidc.PS256, oidc.EdDSA},
	})
	token, err := verifier.Verify(oidc.ClientContext(ctx, p.client), raw)
	if err != nil {
		if expired, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
			return fail(fmt.Sprintf("its id_token expired at %s", expired.Expiry.Format(time.RFC3339)), cmp.Or(p.clockAdvice(), "set this machine's clock"))
		}
		if strings.Contains(err.Error(), "nbf") { // go-oidc has no type for it
			return fail("its id_token is not valid yet", cmp.Or(p.clockAdvice(), "set this machine's clock"))
		}
		if text := describeFailure(err); text != "" {
			return Identity{}, &Error{Provider: p.name, Doing: doing, detail: text}
		}
		return fail("its id_token cannot be verified", fmt.Sprintf("mend issuer, keys_url or client_id in [oauth.%s]", p.name))
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return fail("its id_token has claims of an unknown form", "")
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1 {
		return fail("its id_token is of another login", "begin again")
	}
	id := Identity{Issuer: token.Issuer, Subject: token.Subject, Email: c.Email}
	if microsoft {
		if token.Issuer != strings.ReplaceAll(p.options.Issuer, "{tenantid}", c.Tenant) || c.Tenant == "" {
			return fail(fmt.Sprintf("its id_token is of the issuer %.100q", token.Issuer), fmt.Sprintf("mend issuer or tenant in [oauth.%s]", p.name))
		}
		if named := p.options.Tenant; p.ownTenant() && !strings.Contains(named, ".") && !strings.EqualFold(named, c.Tenant) { // an id, and no domain
			return fail(fmt.Sprintf("its id_token is of the tenant %.100q", c.Tenant), fmt.Sprintf("log in with an account of the tenant, or mend tenant in [oauth.%s]", p.name))
		}
		id.Email, id.Verified = p.microsoftAddress(c, token.Issuer)
		return id, nil
	}
	id.Verified = c.Email != "" && isTrue(c.EmailVerified)
	if p.options.Issuer == googleIssuer {
		// Other addresses were once somebody's who made a Google account with them.
		id.Verified = id.Verified && (c.Workspace != "" || hasDomain(c.Email, "gmail.com", "googlemail.com"))
	}
	return id, nil
}

// microsoftAddress is who has consented, and whether that can be trusted. The
// claim email is what somebody has typed into a directory, of any tenant.
// What users log in with has a domain that the tenant owns, which means something
// where the operator has named the tenant, and not for its guests. Personal accounts
// may have any address that was their user's at some time.
func (p *Provider) microsoftAddress(c claims, issuer string) (address string, verified bool) {
	switch {
	case c.Tenant == personalTenant:
		return c.Email, isPersonal(c.Email)
	case p.ownTenant() && strings.Contains(c.Username, "@"):
		guest := c.Provider != "" && c.Provider != issuer || strings.Contains(c.Username, "#")
		return c.Username, !guest
	case c.Email != "" && isTrue(c.DomainOwner) && !p.ownTenant():
		return c.Email, true
	case strings.Contains(c.Username, "@"):
		return c.Username, false
	}
	return c.Email, false
}

// isPersonal reports whether an address is of a domain of Microsoft's for personal
// mail: outlook.com, live.de, hotmail.co.uk and their like.
func isPersonal(address string) bool {
	_, domain, _ := strings.Cut(strings.ToLower(address), "@")
	name, end, _ := strings.Cut(domain, ".")
	switch name {
	case "outlook", "hotmail", "live":
		end = strings.TrimPrefix(strings.TrimPrefix(end, "co."), "com.")
		return end == "com" || len(end) == 2
	}
	return domain == "msn.com" || domain == "passport.com" || domain == "windowslive.com"
}

func hasDomain(address string, domains ...string) bool {
	_, domain, _ := strings.Cut(strings.ToLower(address), "@")
	return slices.Contains(domains, domain)
}

// ownTenant reports whether the operator has named the tenant.
func (p *Provider) ownTenant() bool {
	switch p.options.Tenant {
	case "", "common", "organizations", "consumers":
		return false
	}
	return true
}

func isTrue(claim any) bool {
	switch v := claim.(type) {
	case bool:
		return v
	case string:
		return strings.EqualFold(v, "true") || v == "1"
	case float64:
		return v == 1
	}
	return false
}
