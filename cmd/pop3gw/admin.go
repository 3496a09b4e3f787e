package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/admin"
)

const (
	// minToken is the least number of characters of a token: nobody should find it
	// by trying.
	minToken = 16
	// adminGrace is for requests that run when the gateway has ended.
	adminGrace = 2 * time.Second
)

// checkAdmin checks [admin].
func (c *config) checkAdmin() error {
	a := c.Admin
	if a.Address == "" {
		if a != (adminConfig{}) {
			return c.source.errorf("admin.address", `missing; such as "127.0.0.1:8110"`)
		}
		return nil
	}
	var token error
	if a.Token != "" {
		token = c.checkToken("admin.token", a.Token)
	}
	return errors.Join(c.checkAddress("admin.address", a.Address, c.Listeners), token)
}

func (c *config) checkToken(key, token string) error {
	if len(token) >= minToken && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil
	}
	return c.source.errorf(key, "it must have %d characters at least, of ASCII and without spaces; \"openssl rand -hex 16\" makes a good one", minToken)
}

// adminToken is that of [admin], from its file if it has one.
func (c *config) adminToken() (string, error) {
	token, err := c.secret("admin.token", c.Admin.Token, c.Admin.TokenFile)
	if err == nil && c.Admin.TokenFile != "" {
		err = c.checkToken("admin.token_file", token)
	}
	return token, err
}

// adminWarning is why the admin listener is a risk; "" if it is none.
func (c *config) adminWarning() string {
	switch a := c.Admin; {
	case a.Address == "" || isLoopback(a.Address):
		return ""
	case a.Token == "" && a.TokenFile == "":
		return "whoever reaches this address sees who is connected and can end sessions; set token_file, or an address of this machine alone such as \"127.0.0.1:8110\""
	}
	return "it can be reached from other machines, and what is seen there crosses the network in clear text, the token too; a network that you trust, or a proxy with TLS, must lie between"
}

// operator is the admin listener.
type operator struct {
	*admin.Server
	open net.Listener
}

// operator opens the admin listener for s; nil if there is none.
func (c *config) operator(s *service) (*operator, error) {
	if c.Admin.Address == "" {
		return nil, nil
	}
	token, err := c.adminToken()
	if err != nil {
		return nil, usageError{err}
	}
	l, err := listen(c.Admin.Address)
	if err != nil {
		return nil, c.source.errorf("admin.address", "%w", err)
	}
	return &operator{admin.New(admin.Options{
		Gateway: s.server, Adapters: s.accounts.shown, PasswordCache: s.accounts.passwordCache,
		Certificates: s.certificates.shown, Limits: s.limits, Token: token, Log: s.log,
	}), l}, nil
}

// serve answers the operator until end.
func (o *operator) serve(s *service) {
	if o == nil {
		return
	}
	s.log.Info("admin listening", "address", o.open.Addr().String())
	go func() {
		if err := o.Serve(o.open); err != nil {
			s.log.Error("the admin listener ended; the gateway goes on without it", "error", err)
		}
	}()
}

// draining has the operator see that the gateway ends.
func (o *operator) draining() {
	if o != nil {
		o.Draining()
	}
}

func (o *operator) end() {
	if o == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminGrace)
	defer cancel()
	o.Shutdown(ctx)
}

// shown are the adapters in force.
func (a *accounts) shown() []admin.Adapter {
	a.mu.Lock()
	defer a.mu.Unlock()
	var adapters []admin.Adapter
	for name, built := range a.current.adapters {
		adapters = append(adapters, admin.Adapter{Name: name, Type: built.of.config.Type, Adapter: built.Adapter})
	}
	slices.SortFunc(adapters, func(a, b admin.Adapter) int { return strings.Compare(a.Name, b.Name) })
	return adapters
}

// limits are those in force.
func (s *service) limits() gateway.Limits { return s.listeners[0].live.Load().limits }

// passwordCache is of the generation in force.
func (a *accounts) passwordCache() (hits, misses uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current.directory.PasswordCache()
}

// shown are the certificates in force.
func (c *certificates) shown() []admin.Certificate {
	n := c.named.Load()
	if n == nil {
		return nil
	}
	var shown []admin.Certificate
	for i, cert := range n.all {
		names := cert.Leaf.DNSNames
		for _, ip := range cert.Leaf.IPAddresses {
			names = append(names[:len(names):len(names)], ip.String())
		}
		if len(names) == 0 {
			names = []string{cert.Leaf.Subject.CommonName}
		}
		shown = append(shown, admin.Certificate{File: n.files[i], Names: names, NotAfter: cert.Leaf.NotAfter})
	}
	return shown
}

// adminURL is where this machine reaches the admin listener.
func (c *config) adminURL() (string, error) {
	if c.Admin.Address == "" {
		return "", c.source.errorf("admin.address", `missing, so that there is nobody to ask; set it to "127.0.0.1:8110" in [admin] and start the gateway again`)
	}
	return "http://" + ownAddress(c.Admin.Address), nil
}

// ownAddress is where this machine reaches what listens on an address that was
// checked. One such as 0.0.0.0, which stands for all of this machine's, leads to
// loopback.
func ownAddress(address string) string {
	host, port, _ := net.SplitHostPort(address)
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
