package oauth

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Options are the keys of a table [oauth.NAME]. Zero fields have the default,
// which is given in parentheses; that of the endpoints is the preset's.
type Options struct {
	// Preset fills in what is not set here: "google" or "microsoft" (NAME, where
	// that is one of them).
	Preset string `toml:"preset"`
	// Tenant is the directory of Microsoft that users are in: its domain or its
	// id ("common": any, and personal accounts).
	Tenant string `toml:"tenant"`

	// ClientID is what the provider calls the gateway. Required, but for service
	// accounts.
	ClientID string `toml:"client_id"`
	// ClientSecret goes with it, where the provider gave one (none).
	ClientSecret string `toml:"client_secret"`
	// ClientSecretFile names a file with ClientSecret. New does not read it.
	ClientSecretFile string `toml:"client_secret_file"`
	// ClientAuth is how both are sent (ClientInBody).
	ClientAuth ClientAuth `toml:"client_auth"`

	// Grant is how tokens are got (GrantUser).
	Grant GrantType `toml:"grant"`
	// ServiceAccountFile names the key of a service account, in Google's JSON.
	// New does not read it: ServiceAccount is its content.
	ServiceAccountFile string `toml:"service_account_file"`
	ServiceAccount     []byte

	// Scopes are what the gateway asks for.
	Scopes []string `toml:"scopes"`

	AuthURL   string `toml:"auth_url"`   // where a user consents
	TokenURL  string `toml:"token_url"`  // where tokens are got
	DeviceURL string `toml:"device_url"` // where a device grant starts (none)
	RevokeURL string `toml:"revoke_url"` // where a grant is revoked, RFC 7009 (none)
	Issuer    string `toml:"issuer"`     // of id_tokens (none)
	KeysURL   string `toml:"keys_url"`   // of the keys that they are signed with (none)
	// RedirectURL is where the provider sends a browser back to when somebody
	// logs in by command ("http://127.0.0.1", or "http://localhost" at
	// Microsoft; without a port, any that is free).
	RedirectURL string `toml:"redirect_url"`
	// CAFile names a PEM file of certificates to trust besides the system's
	// (none).
	CAFile string `toml:"ca_file"`
}

// String and LogValue leave the secrets out.
func (o Options) String() string { return fmt.Sprintf("OAuth client %q", o.ClientID) }

// GrantType is how tokens are got; "" is GrantUser.
type GrantType string

const (
	GrantUser           GrantType = "user"               // with a user's consent
	GrantClient         GrantType = "client_credentials" // as the client itself, RFC 6749 §4.4
	GrantServiceAccount GrantType = "service_account"    // by an assertion for each mailbox, RFC 7523
)

// ClientAuth is how client_id and client_secret are sent; "" is ClientInBody.
type ClientAuth string

const (
	ClientInBody ClientAuth = "body"  // as parameters
	ClientBasic  ClientAuth = "basic" // as HTTP Basic authentication
)

func (g *GrantType) UnmarshalText(text []byte) error {
	return choose(g, text, GrantUser, GrantClient, GrantServiceAccount)
}

func (c *ClientAuth) UnmarshalText(text []byte) error {
	return choose(c, text, ClientInBody, ClientBasic)
}

func choose[T ~string](value *T, text []byte, allowed ...T) error {
	if !slices.Contains(allowed, T(text)) {
		return fmt.Errorf("found %q; allowed are %s", text, quoteAll(allowed))
	}
	*value = T(text)
	return nil
}

func quoteAll[T ~string](values []T) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", string(v))
	}
	return strings.Join(quoted, ", ")
}

// presets are what is known of providers. In URLs {tenant} is the tenant.
var presets = map[string]preset{
	"google": {
		Options: Options{
			AuthURL:     "https://accounts.google.com/o/oauth2/v2/auth",
			TokenURL:    "https://oauth2.googleapis.com/token",
			RevokeURL:   "https://oauth2.googleapis.com/revoke",
			Issuer:      googleIssuer,
			KeysURL:     "https://www.googleapis.com/oauth2/v3/certs",
			RedirectURL: "http://127.0.0.1",
			// There is a DeviceURL, but it grants no access to mail.
		},
		scopes: map[GrantType][]string{
			GrantUser:           {"https://mail.google.com/", "openid", "email"},
			GrantServiceAccount: {"https://mail.google.com/"},
		},
		// Without both there is no refresh token but for the first consent.
		parameters: map[string]string{"access_type": "offline", "prompt": "consent"},
		manage:     "https://myaccount.google.com/connections",
	},
	"microsoft": {
		Options: Options{
			AuthURL:     "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
			TokenURL:    "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
			DeviceURL:   "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
			Issuer:      "https://login.microsoftonline.com/{tenantid}/v2.0",
			KeysURL:     "https://login.microsoftonline.com/{tenant}/discovery/v2.0/keys",
			RedirectURL: "http://localhost", // where Microsoft minds no port
		},
		scopes: map[GrantType][]string{
			GrantUser:   {"https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access", "openid", "profile", "email"},
			GrantClient: {"https://outlook.office365.com/.default"},
		},
		manage: "https://myapps.microsoft.com",
	},
}

// preset is a provider that is known.
type preset struct {
	Options
	scopes     map[GrantType][]string
	parameters map[string]string // of a request for consent
	manage     string            // where users see and end what they have granted
}

// complete puts the preset and the defaults in, and says what is wrong. Its
// errors name the key.
func (o Options) complete(name string) (Options, preset, error) {
	if _, known := presets[name]; known && o.Preset == "" {
		o.Preset = name
	}
	p, known := presets[o.Preset]
	if o.Preset != "" && !known {
		return o, p, fmt.Errorf(`preset: found %q; allowed are "google" and "microsoft"`, o.Preset)
	}
	if o.Tenant != "" && o.Preset != "microsoft" {
		return o, p, fmt.Errorf(`tenant: found %q; it is for preset = "microsoft" alone`, o.Tenant)
	}
	if strings.ContainsAny(o.Tenant, "/?#{} ") {
		return o, p, fmt.Errorf("tenant: found %q; allowed are a domain, such as %q, or the id of a directory", o.Tenant, "example.onmicrosoft.com")
	}
	o.Grant = cmp.Or(o.Grant, GrantUser)
	o.ClientAuth = cmp.Or(o.ClientAuth, ClientInBody)
	fill := strings.NewReplacer("{tenant}", cmp.Or(o.Tenant, "common")).Replace
	for value, preset := range map[*string]string{
		&o.AuthURL: p.AuthURL, &o.TokenURL: p.TokenURL, &o.DeviceURL: p.DeviceURL, &o.RevokeURL: p.RevokeURL,
		&o.Issuer: p.Issuer, &o.KeysURL: p.KeysURL, &o.RedirectURL: cmp.Or(p.RedirectURL, "http://127.0.0.1"),
	} {
		*value = cmp.Or(*value, fill(preset))
	}
	if len(o.Scopes) == 0 {
		o.Scopes = p.scopes[o.Grant]
	}
	return o, p, errors.Join(o.checkGrant(name), o.checkURLs())
}

// checkGrant says what the way to get tokens lacks.
func (o Options) checkGrant(name string) error {
	missing := func(key, why string) error { return fmt.Errorf("%s: missing; %s", key, why) }
	var errs []error
	if o.ClientID == "" && o.Grant != GrantServiceAccount {
		errs = append(errs, missing("client_id", "it is what the provider calls the gateway, once that is registered there"))
	}
	if o.TokenURL == "" && o.Grant != GrantServiceAccount {
		errs = append(errs, missing("token_url", fmt.Sprintf(`set it, or preset = "google" or "microsoft"; %q is no preset`, name)))
	}
	if len(o.Scopes) == 0 {
		errs = append(errs, missing("scopes", "they are what the gateway asks the provider for"))
	}
	switch o.Grant {
	case GrantUser:
		if o.AuthURL == "" && o.DeviceURL == "" && o.TokenURL != "" {
			errs = append(errs, missing("auth_url", "set it or device_url, or nobody could consent"))
		}
	case GrantClient:
		if o.ClientSecret == "" && o.ClientSecretFile == "" {
			errs = append(errs, missing("client_secret", `grant = "client_credentials" needs it, or client_secret_file`))
		}
		if o.Preset == "microsoft" && slices.Contains([]string{"", "common", "organizations", "consumers"}, o.Tenant) {
			errs = append(errs, missing("tenant", `grant = "client_credentials" needs the directory whose mailboxes they are, such as "example.onmicrosoft.com"`))
		}
		if o.Preset == "google" {
			errs = append(errs, errors.New(`grant: found "client_credentials"; Google has "service_account" for that`))
		}
	case GrantServiceAccount:
		if o.ServiceAccountFile == "" {
			errs = append(errs, missing("service_account_file", `grant = "service_account" needs the JSON file that Google gave for the key`))
		}
		if o.Preset == "microsoft" {
			errs = append(errs, errors.New(`grant: found "service_account"; Microsoft has "client_credentials" for that`))
		}
	}
	if o.Grant != GrantServiceAccount && o.ServiceAccountFile != "" {
		errs = append(errs, fmt.Errorf(`service_account_file: found %q; it needs grant = "service_account"`, o.ServiceAccountFile))
	}
	return errors.Join(errs...)
}

// checkURLs refuses what would send secrets in clear text.
func (o Options) checkURLs() error {
	var errs []error
	for _, e := range []struct{ key, value string }{
		{"auth_url", o.AuthURL}, {"token_url", o.TokenURL}, {"device_url", o.DeviceURL}, {"revoke_url", o.RevokeURL}, {"keys_url", o.KeysURL},
	} {
		if e.value == "" {
			continue
		}
		if u, err := url.Parse(e.value); err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
			errs = append(errs, fmt.Errorf("%s: found %q; allowed is an address that begins with https://", e.key, e.value))
		}
	}
	if u, err := url.Parse(o.RedirectURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, fmt.Errorf(`redirect_url: found %q; allowed are "http://127.0.0.1" or "http://localhost", with a port or without, and addresses that begin with https://`, o.RedirectURL))
	} else if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		errs = append(errs, fmt.Errorf("redirect_url: found %q; http:// is for this machine alone, 127.0.0.1 or localhost", o.RedirectURL))
	}
	return errors.Join(errs...)
}

// isLoopback reports whether host is this machine's own alone.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// hasPort reports whether a URL names one.
func hasPort(u *url.URL) bool {
	_, _, err := net.SplitHostPort(u.Host)
	return err == nil
}
