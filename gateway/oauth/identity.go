package oauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
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
}

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
			return fail(fmt.Sprintf("its id_token expired at %s", expired.Expiry.Format(time.RFC3339)),
				clockAdvice(time.Until(expired.Expiry)*-1))
		}
		if strings.Contains(err.Error(), "nbf") { // go-oidc has no type for it
			return fail("its id_token is not valid yet", "set this machine's clock")
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
		id.Email, id.Verified = p.microsoftAddress(c, token.Issuer)
		return id, nil
	}
	id.Verified = c.Email != "" && isTrue(c.EmailVerified)
	return id, nil
}

// microsoftAddress is who has consented, and whether that can be trusted. The
// claim email is what somebody has typed into a directory, of any tenant.
// What users log in with has a domain that the tenant owns, which means something
// where the operator has named the tenant, and not for its guests.
func (p *Provider) microsoftAddress(c claims, issuer string) (address string, verified bool) {
	switch {
	case c.Tenant == personalTenant:
		return c.Email, c.Email != ""
	case c.Email != "" && isTrue(c.DomainOwner):
		return c.Email, true
	case !strings.Contains(c.Username, "@"):
		return c.Email, false
	}
	guest := c.Provider != "" && c.Provider != issuer || strings.Contains(c.Username, "#")
	return c.Username, p.ownTenant() && !guest
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
