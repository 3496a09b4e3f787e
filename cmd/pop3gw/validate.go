package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"pop3gw/adapters/imap"
	"pop3gw/gateway"
)

// Names as in Dovecot's pop3_client_workarounds.
const (
	workaroundNUL       = "outlook-no-nuls"
	workaroundEndHeader = "oe-ns-eoh"
)

// check completes the configuration with defaults and finds what cannot be
// right, before anything is opened. The error is one for each mistake, joined.
func (c *config) check() error {
	var errs []error
	if len(c.Listeners) == 0 {
		errs = append(errs, c.source.errorf("listeners", "there is none; add a [[listeners]] table with an address"))
	}
	for i := range c.Listeners {
		errs = append(errs, c.checkListener(i))
	}
	errs = append(errs, c.checkPair("tls", &c.TLS.pairConfig, false))
	for i := range c.TLS.Certificates {
		errs = append(errs, c.checkPair(fmt.Sprintf("tls.certificates[%d]", i), &c.TLS.Certificates[i], true))
	}
	if len(c.Users) == 0 && len(c.Routes) == 0 && !c.Enrol.isSet() {
		errs = append(errs, c.source.errorf("", "there is neither a [[users]] nor a [[routes]] table, so that nobody could log in; add one"))
	}
	for i, u := range c.Users {
		key := fmt.Sprintf("users[%d].", i)
		errs = append(errs, c.required(key+"name", u.Name, `"scanner"`), c.checkAdapterName(key+"adapter", u.Adapter),
			c.checkPolicy(key, u.Policy, u.Adapter))
	}
	for i, r := range c.Routes {
		key := fmt.Sprintf("routes[%d].", i)
		errs = append(errs, c.required(key+"users", r.Users, `"*" for everybody`), c.checkAdapterName(key+"adapter", r.Adapter),
			c.checkPolicy(key, r.Policy, r.Adapter))
	}
	errs = append(errs,
		c.oneOf("lock.when_busy", &c.Lock.WhenBusy, "refuse", "wait", "takeover"),
		c.checkLockWait(),
		c.oneOf("log.format", &c.Log.Format, "text", "json"),
		c.oneOf("log.level", &c.Log.Level, "info", "debug", "warn", "error"),
	)
	if strings.ContainsFunc(c.Hostname, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>@", r) }) {
		errs = append(errs, c.source.errorf("hostname", `found %q; wanted is a host name such as "pop.example.org"`, c.Hostname))
	}
	errs = append(errs, c.source.keyErrors("limits", c.Limits.Check()), c.checkAdmin(), c.checkEnrol(), c.checkDurable())
	_, err := c.stateFolder()
	errs = append(errs, err, c.checkOAuth())
	errs = append(errs, c.checkForms()...)
	return errors.Join(errs...)
}

// checkPair makes the paths of a certificate and its key absolute.
func (c *config) checkPair(key string, p *pairConfig, required bool) error {
	switch {
	case *p == (pairConfig{}) && required:
		return c.source.errorf(key, "found neither certificate nor key; set both, or remove the table")
	case (p.Certificate == "") != (p.Key == ""):
		return c.source.errorf(key, "found one of certificate and key; they go together")
	}
	p.Certificate, p.Key = c.path(p.Certificate), c.path(p.Key)
	return nil
}

// checkPolicy checks the policy of a user or route, and what becomes of it together
// with the adapter's.
func (c *config) checkPolicy(table string, p gateway.Policy, adapter string) error {
	table = strings.TrimSuffix(table, ".")
	if err := p.Check(); err != nil {
		return c.source.keyErrors(table, err)
	}
	if reflect.DeepEqual(p, gateway.Policy{}) || c.policy(gateway.Policy{}, adapter).Check() != nil { // said of the adapter
		return nil
	}
	return c.source.keyErrors(table, c.policy(p, adapter).Check())
}

// checkDurable finds what needs state.url where that is not set.
func (c *config) checkDurable() error {
	if c.State.URL != "" {
		return nil
	}
	var errs []error
	missing := func(key, found, why string) {
		errs = append(errs, c.source.errorf(key, "found %s, for which %s; set url in [state]", found, why))
	}
	expires := func(table string, p gateway.Policy) {
		if p.ExpireAfter > 0 {
			missing(table+".expire_after", "an age", "the gateway must remember what was retrieved")
		}
	}
	for _, name := range c.adapterNames() {
		a := c.adapters[name]
		expires("adapters."+name, c.policy(gateway.Policy{}, name))
		if a.Type == "imap" && a.IMAP.WithoutUIDPLUS == imap.Guarded {
			missing("adapters."+name+".without_uidplus", `"guarded"`, "the gateway must note what it changes for the while")
		}
	}
	for i, u := range c.Users {
		expires(fmt.Sprintf("users[%d]", i), u.Policy)
	}
	for i, r := range c.Routes {
		expires(fmt.Sprintf("routes[%d]", i), r.Policy)
	}
	return errors.Join(errs...)
}

func (c *config) checkListener(i int) error {
	l := &c.Listeners[i]
	key := fmt.Sprintf("listeners[%d].", i)
	if l.TLS == "" && !c.TLS.isSet() {
		l.TLS = "none"
	}
	errs := []error{
		c.checkAddress(key+"address", l.Address, c.Listeners[:i]),
		c.oneOf(key+"tls", &l.TLS, "stls", "none", "implicit"),
		c.oneOf(key+"cleartext_login", &l.CleartextLogin, "loopback", "never", "always"),
		c.oneOf(key+"tls_profile", &l.TLSProfile, modernTLS, legacyTLS),
		c.eachOf(key+"mechanisms", l.Mechanisms, gateway.Mechanisms...),
		c.eachOf(key+"workarounds", l.Workarounds, workaroundNUL, workaroundEndHeader),
	}
	for _, text := range l.ProxyProtocolFrom {
		if _, err := parseBlock(text); err != nil {
			errs = append(errs, c.source.errorf(key+"proxy_protocol_from", "%w", err))
		}
	}
	if l.Mechanisms != nil && len(l.Mechanisms) == 0 {
		errs = append(errs, c.source.errorf(key+"mechanisms", "the list is empty, so that nobody could log in; leave the key out for the default"))
	}
	switch {
	case l.TLS != "none" && !c.TLS.isSet():
		errs = append(errs, c.source.errorf(key+"tls", `found %q, which needs a certificate; set certificate and key in [tls]`, l.TLS))
	case l.TLS == "none" && l.CleartextLogin == "never":
		errs = append(errs, c.source.errorf(key+"cleartext_login", `found "never" where tls is "none", so that nobody could log in; change one of them`))
	case l.TLS == "none" && l.TLSProfile != modernTLS:
		errs = append(errs, c.source.errorf(key+"tls_profile", `found %q where tls is "none"; remove it, or set tls`, l.TLSProfile))
	case l.ClientCAFile == "" && slices.Contains(l.Mechanisms, "EXTERNAL"):
		errs = append(errs, c.source.errorf(key+"mechanisms", `found "EXTERNAL", which needs clients' certificates; set client_ca_file to their authorities`))
	case l.TLS == "none" && l.ClientCAFile != "":
		errs = append(errs, c.source.errorf(key+"client_ca_file", `found %q where tls is "none"; remove it, or set tls`, l.ClientCAFile))
	}
	return errors.Join(errs...)
}

func (c *config) checkAddress(key, address string, earlier []listenerConfig) error {
	example := `"0.0.0.0:110", or "[::]:110"`
	if key == "admin.address" {
		example = `"127.0.0.1:8110"`
	}
	if address == "" {
		return c.required(key, address, `"0.0.0.0:110"`)
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return c.source.errorf(key, `found %q; wanted is an address and a port, such as %s`, address, example)
	}
	for i, e := range earlier {
		if e.Address == address && port != "0" {
			return c.source.errorf(key, "found %q, which is the address of entry %d as well; choose another port", address, i+1)
		}
	}
	return nil
}

func (c *config) checkLockWait() error {
	if c.Lock.Wait < 0 {
		return c.source.errorf("lock.wait", `found %q; allowed are times above 0, such as "10s"`, c.Lock.Wait)
	}
	c.Lock.Wait = cmp.Or(c.Lock.Wait, gateway.DefaultLockWait)
	return nil
}

func (c *config) checkAdapterName(key, name string) error {
	if _, ok := c.adapters[name]; ok {
		return nil
	}
	found := "missing"
	if name != "" {
		found = fmt.Sprintf("found %q", name)
	}
	if len(c.adapters) == 0 {
		return c.source.errorf(key, "%s; there is no adapter: add a table [adapters.NAME]", found)
	}
	return c.source.errorf(key, "%s; [adapters] has: %s", found, strings.Join(c.adapterNames(), ", "))
}

func (c *config) required(key, value, example string) error {
	if value != "" {
		return nil
	}
	return c.source.errorf(key, "missing; such as %s", example)
}

// oneOf checks a value; the first of allowed is the default.
func (c *config) oneOf(key string, value *string, allowed ...string) error {
	if *value == "" {
		*value = allowed[0]
	}
	return c.eachOf(key, []string{*value}, allowed...)
}

func (c *config) eachOf(key string, values []string, allowed ...string) error {
	for _, v := range values {
		if !slices.Contains(allowed, v) {
			verb := "are"
			if len(allowed) == 1 {
				verb = "is"
			}
			return c.source.errorf(key, `found %q; allowed %s "%s"`, v, verb, strings.Join(allowed, `", "`))
		}
	}
	return nil
}

// warnings are settings that may be meant so, but are a risk or of no use.
func (c *config) warnings() []error {
	var warnings []error
	warn := func(key, text string) { warnings = append(warnings, c.source.errorf(key, "%s", text)) }
	for i, l := range c.Listeners {
		key := fmt.Sprintf("listeners[%d].cleartext_login", i)
		if slices.ContainsFunc(l.proxyFrom(), func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			warn(fmt.Sprintf("listeners[%d].proxy_protocol_from", i), "everybody is trusted to say which address they have, against limits and logs; name your balancers alone")
		}
		if l.TLSProfile == legacyTLS {
			warn(fmt.Sprintf("listeners[%d].tls_profile", i), "\"legacy\" lets TLS 1.0 and 1.1, RSA key exchange, CBC and 3DES in: who records a session can read it once the key is known, and attacks on these are published; have it on a port of its own, for the devices that need it")
		}
		switch {
		case l.TLS == "none" && l.CleartextLogin == "loopback" && len(l.ProxyProtocolFrom) > 0:
			warn(key, "nobody can log in through the balancer, since there is neither TLS nor \"always\" here")
		case l.TLS == "implicit" || isLoopback(l.Address):
		case l.CleartextLogin == "always":
			warn(key, "passwords and mail may cross the network in clear text; set tls to \"stls\" or \"implicit\", or listen in a network that you trust alone")
		case l.CleartextLogin == "loopback" && l.TLS == "none":
			warn(key, "nobody can log in from another machine, since there is neither TLS nor \"always\" here")
		}
	}
	if why := c.adminWarning(); why != "" {
		warn("admin.address", why)
	}
	for _, name := range c.adapterNames() {
		a := c.adapters[name]
		if a.Type == "imap" && a.IMAP.TLS == imap.NoTLS && !isLoopback(a.IMAP.Address) {
			warn("adapters."+name+".tls", "passwords and mail cross the network to the IMAP server in clear text")
		}
	}
	if slices.Contains(c.Enrol.Domains, "*") {
		warn("enrol.domains", "whoever has an account at one of the providers may use the gateway")
	}
	return warnings
}

// isLoopback reports whether address, with a port or without, is this machine's
// own alone. A name is not looked up.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}
