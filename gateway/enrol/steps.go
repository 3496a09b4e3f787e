package enrol

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"time"

	"pop3gw/gateway/account"
	"pop3gw/gateway/oauth"
)

// providerPatience bounds the talk with a provider while a browser waits.
const providerPatience = time.Minute

// choose is the first page.
func (p *Page) choose(w http.ResponseWriter, r *http.Request) {
	cookie := cookieOf(r)
	if cookie == "" {
		cookie = rand.Text()
		setCookie(w, cookie)
	}
	terms := p.options.Terms()
	p.render(w, r, http.StatusOK, "choose", map[string]any{
		"Title": "Mail for older programs and devices", "Server": terms.Settings.Server, "Token": p.token(cookie),
		"Providers": terms.Providers, "Domains": terms.named(),
	})
}

// named are the domains that a user is told of.
func (t Terms) named() []string {
	if len(t.Domains) == 1 && t.Domains[0] == "*" {
		return nil
	}
	return t.Domains
}

// start sends the browser to the provider.
func (p *Page) start(w http.ResponseWriter, r *http.Request) {
	if !p.may(w, r) {
		return
	}
	if !p.ours(r) {
		p.expired(w, r)
		return
	}
	terms := p.options.Terms()
	for _, provider := range terms.Providers {
		if provider.Name() != r.PostFormValue("provider") {
			continue
		}
		v := &visit{provider: provider, flow: provider.StartCode(p.origin+"/callback", "")}
		cookie, ok := p.visits.begin(cookieOf(r), v)
		if !ok {
			p.log.Warn("enrolment refused", "remote", r.RemoteAddr, "reason", "too many visits at a time")
			p.message(w, r, http.StatusServiceUnavailable, "Too many people are here", "Please try again in some minutes.")
			return
		}
		setCookie(w, cookie)
		// No redirect: browsers hold form-action against every host that the provider
		// redirects to in turn, and nobody knows which these are.
		p.render(w, r, http.StatusOK, "leave", map[string]any{"Title": "To " + provider.Title, "Server": terms.Settings.Server, "Next": v.flow.URL})
		return
	}
	p.message(w, r, http.StatusBadRequest, "There is no such choice", "")
}

// may reports whether a client has not asked too much, and tells it otherwise.
func (p *Page) may(w http.ResponseWriter, r *http.Request) bool {
	if p.limiter.allow(r.RemoteAddr) {
		return true
	}
	p.log.Warn("enrolment refused", "remote", r.RemoteAddr, "reason", "too many attempts from this address")
	w.Header().Set("Retry-After", "60")
	p.message(w, r, http.StatusTooManyRequests, "Too many attempts", "Please wait a minute, and begin again.")
	return false
}

func (p *Page) expired(w http.ResponseWriter, r *http.Request) {
	p.message(w, r, http.StatusForbidden, "That took too long, or happened in another window",
		"Nothing was changed. This page needs cookies, and one window at a time.")
}

// callback is where the provider sends the browser back to.
func (p *Page) callback(w http.ResponseWriter, r *http.Request) {
	if !p.may(w, r) {
		return
	}
	v := p.visits.find(cookieOf(r))
	// A stray link must not end the visit.
	if v == nil || v.flow == nil || subtle.ConstantTimeCompare([]byte(r.FormValue("state")), []byte(v.flow.State)) != 1 || p.visits.take(cookieOf(r)) != v {
		p.expired(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), providerPatience)
	defer cancel()
	grant, err := v.flow.Finish(ctx, r.URL.Query())
	if err != nil {
		p.failed(w, r, v, err)
		return
	}
	// A reload may have made the gateway another client since: the grant is of no use.
	fits := func(now Provider) bool { return now.Fits(grant) == nil }
	if !slices.ContainsFunc(p.options.Terms().Providers, fits) {
		p.expired(w, r)
		return
	}
	name, refusal := p.admit(grant)
	if refusal != "" {
		p.log.Warn("enrolment refused", "provider", v.provider.Name(), "user", grant.Identity.Email, "remote", r.RemoteAddr, "reason", refusal)
		p.message(w, r, http.StatusForbidden, "This address cannot be used here", refusal)
		return
	}
	cookie, ok := p.visits.begin("", &visit{provider: v.provider, grant: grant, name: name})
	if !ok {
		p.message(w, r, http.StatusServiceUnavailable, "Too many people are here", "Please try again in some minutes.")
		return
	}
	setCookie(w, cookie)
	http.Redirect(w, r, "/account", http.StatusSeeOther)
}

// admit returns the name of the account that a grant opens, or why there is none,
// in words for the user.
func (p *Page) admit(g *oauth.Grant) (name, refusal string) {
	address := g.Identity.Email
	name, err := loginName(address)
	switch {
	case address == "" || !g.Identity.Verified:
		return "", "The provider does not confirm that the address is yours. Confirm it there, or ask whoever runs this service."
	case err != nil:
		return "", "The address is of a form that POP3 clients cannot log in with. Ask whoever runs this service."
	case !p.options.Terms().allows(name):
		return "", "The address " + address + " is of none of the domains that this service is for. If you have another account, sign out at the provider, and choose that one."
	case p.options.Accounts.Reserved(name):
		return "", "The account " + name + " was set up by whoever runs this service. Ask there for its password."
	}
	return name, ""
}

// failed tells the user why the provider did not say yes.
func (p *Page) failed(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	p.log.Warn("enrolment failed", "provider", v.provider.Name(), "remote", r.RemoteAddr, "error", err)
	title, text := "That did not work", "Whoever runs this service has to look into it; the log says why."
	status := http.StatusBadGateway
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		switch e.Kind {
		case oauth.Consent:
			status, title, text = http.StatusForbidden, "You did not agree", "The provider gave no access to your mail. Nothing was changed. To go on, begin again, and leave the permission for mail ticked."
		case oauth.Temporary:
			title, text = v.provider.Title+" does not answer", "Nothing was changed. Please try again in some minutes."
		}
	}
	p.message(w, r, status, title, text)
}

// account says what is about to be made.
func (p *Page) account(w http.ResponseWriter, r *http.Request) {
	cookie := cookieOf(r)
	v := p.visits.find(cookie)
	if v == nil || v.grant == nil {
		p.expired(w, r)
		return
	}
	old, exists, ok := p.existing(w, r, v)
	if !ok {
		return
	}
	title := "Make a POP3 password"
	if exists {
		title = "Replace your POP3 password"
	}
	p.render(w, r, http.StatusOK, "account", map[string]any{
		"Title": title, "Server": p.options.Terms().Settings.Server, "Token": p.token(cookie),
		"Name": v.name, "Provider": v.provider.Title, "Exists": exists, "Changed": old.Changed.Format("2 January 2006"),
	})
}

// existing returns the account of a visit, if there is one. It is not ok, and the
// answer is given, if that is somebody else's or cannot be found out.
func (p *Page) existing(w http.ResponseWriter, r *http.Request, v *visit) (old Account, exists, ok bool) {
	old, exists, err := p.options.Accounts.Enrolled(r.Context(), v.name)
	id := v.grant.Identity
	switch {
	case err != nil:
		p.broken(w, r, v, err)
		return old, false, false
	case exists && (old.Issuer != id.Issuer || old.Subject != id.Subject):
		p.taken(w, r, v)
		return old, true, false
	}
	return old, exists, true
}

// taken is for an account that is somebody else's.
func (p *Page) taken(w http.ResponseWriter, r *http.Request, v *visit) {
	p.log.Warn("enrolment refused", "provider", v.provider.Name(), "user", v.name, "remote", r.RemoteAddr,
		"reason", ErrTaken, "command", "pop3gw enrol remove "+v.name)
	p.message(w, r, http.StatusForbidden, "This address is taken",
		"The account "+v.name+" was made with another sign-in. If that was you, sign in as then; otherwise ask whoever runs this service.")
}

// broken is for errors that users can do nothing about.
func (p *Page) broken(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	p.log.Error("enrolment failed", "provider", v.provider.Name(), "user", v.name, "remote", r.RemoteAddr, "error", err)
	p.message(w, r, http.StatusInternalServerError, "That did not work", "Nothing was changed. Please try again later.")
}

// password makes the account and shows its password, once.
func (p *Page) password(w http.ResponseWriter, r *http.Request) {
	if !p.may(w, r) {
		return
	}
	if !p.ours(r) {
		p.expired(w, r)
		return
	}
	v := p.visits.take(cookieOf(r))
	if v == nil || v.grant == nil {
		p.expired(w, r)
		return
	}
	setCookie(w, "")
	_, replaced, ok := p.existing(w, r, v)
	if !ok {
		return
	}
	password := newPassword()
	stored, err := account.HashSCRAM([]byte(password))
	if err != nil {
		p.broken(w, r, v, err)
		return
	}
	id := v.grant.Identity
	made := Account{Name: v.name, Upstream: id.Email, Password: stored, Provider: v.provider.Name(), Issuer: id.Issuer, Subject: id.Subject, Changed: time.Now()}
	err = p.options.Accounts.Enrol(r.Context(), made, v.grant)
	if errors.Is(err, ErrTaken) { // at this very moment
		p.taken(w, r, v)
		return
	}
	if err != nil {
		p.broken(w, r, v, err)
		return
	}
	p.log.Info("enrolled", "user", v.name, "provider", v.provider.Name(), "remote", r.RemoteAddr, "replaced", replaced)
	settings := p.options.Terms().Settings
	p.render(w, r, http.StatusOK, "password", map[string]any{
		"Title": "Your POP3 account is ready", "Server": settings.Server, "Name": v.name, "Password": password,
		"Ports": settings.Ports, "Replaced": replaced, "Provider": v.provider.Title, "Manage": v.provider.ManageURL(),
	})
}
