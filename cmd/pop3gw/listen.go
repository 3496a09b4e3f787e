package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/account"
)

// listener is where clients come in. It is not open yet.
type listener struct {
	address string
	tls     string // as in the configuration
	key     string // of its address in the configuration
	options gateway.ListenerOptions
	secure  *listenerTLS // nil without TLS
	live    *atomic.Pointer[liveOptions]
}

// liveOptions are what the next client of a listener gets.
type liveOptions struct {
	options gateway.ListenerOptions
	limits  gateway.Limits
}

// use puts the options of next, which has the same address, in force. TLS sessions
// can still be resumed.
func (l *listener) use(next listener, limits gateway.Limits) {
	switch {
	case next.secure == nil:
		l.secure = nil
	case l.secure == nil:
		l.secure = next.secure
	default:
		l.secure.settings.Store(next.secure.settings.Load())
	}
	if l.secure != nil {
		next.options.TLS = l.secure.config
	}
	l.live.Store(&liveOptions{next.options, limits})
}

// listeners have the settings of those with TLS.
func (c *config) listeners(settings []*tls.Config) []listener {
	var listeners []listener
	for i, l := range c.Listeners {
		options := gateway.ListenerOptions{
			Implicit:   l.TLS == "implicit",
			ProxyFrom:  l.proxyFrom(),
			Mechanisms: l.Mechanisms,
			ReplaceNUL: slices.Contains(l.Workarounds, workaroundNUL),
			EndHeader:  slices.Contains(l.Workarounds, workaroundEndHeader),
		}
		switch l.CleartextLogin {
		case "never":
			options.CleartextLogin = gateway.CleartextNever
		case "always":
			options.CleartextLogin = gateway.CleartextAlways
		}
		var secure *listenerTLS
		if settings[i] != nil {
			secure = newListenerTLS(settings[i])
			options.TLS = secure.config
		}
		live := new(atomic.Pointer[liveOptions])
		live.Store(&liveOptions{options, c.Limits})
		options.Current = func() (gateway.ListenerOptions, gateway.Limits) {
			now := live.Load()
			return now.options, now.limits
		}
		listeners = append(listeners, listener{l.Address, l.TLS, fmt.Sprintf("listeners[%d].address", i), options, secure, live})
	}
	return listeners
}

// mechanismWarnings are ways to log in that a listener names though they work for
// no user of d, so that no client is offered them.
func (c *config) mechanismWarnings(d *account.Directory) []error {
	var warnings []error
	for i, l := range c.Listeners {
		for _, name := range l.Mechanisms {
			if some, _ := d.Offers(name); !some {
				warnings = append(warnings, c.source.errorf(fmt.Sprintf("listeners[%d].mechanisms", i), "%s works for no user, and is not offered: %s", name, mechanismNeeds[name]))
			}
		}
	}
	return warnings
}

var mechanismNeeds = map[string]string{
	"APOP":          "it needs passwords stored as {PLAIN}",
	"SCRAM-SHA-256": "it needs passwords stored as {SCRAM-SHA-256} or {PLAIN}",

	"OAUTHBEARER": "it needs an IMAP adapter that checks the passwords itself",
	"EXTERNAL":    "it needs users whose password the gateway need not pass on: of Maildirs, with upstream_password_file, or of an adapter with master_user",
	"XOAUTH2":     "it needs an IMAP adapter that checks the passwords itself",
}

// listenAll opens all listeners of s, or none. Those that systemd has opened are
// taken over.
func (c *config) listenAll(s *service) ([]net.Listener, error) {
	passed, err := inherited()
	if err != nil {
		return nil, err
	}
	var open []net.Listener
	for _, l := range s.listeners {
		nl := takeInherited(&passed, l.address)
		if nl == nil {
			if nl, err = listen(l.address); err != nil {
				closeAll(append(open, passed...))
				return nil, c.source.errorf(l.key, "%w", err)
			}
		}
		open = append(open, nl)
	}
	if len(passed) > 0 {
		defer closeAll(append(open, passed...))
		return nil, c.source.errorf("listeners", "systemd listens on %s, and no listener has this address; correct ListenStream= in pop3gw.socket, or add the listener", passed[0].Addr())
	}
	return open, nil
}

func closeAll(open []net.Listener) {
	for _, l := range open {
		l.Close()
	}
}

// keepAlive finds a client that vanished without a word within about two
// minutes, so that its session does not hold the maildrop's lock.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

// listen opens a listener. What the system says of a failure is turned into
// what to change.
func listen(address string) (net.Listener, error) {
	// Go takes 0.0.0.0 for all of IPv6 as well. One name for each lets an operator
	// have both, on one port.
	network := "tcp"
	if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().Is4() {
		network = "tcp4"
	} else if err == nil {
		network = "tcp6"
	}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	config.SetMultipathTCP(false) // which no POP3 client speaks, and each connection would pay for
	l, err := config.Listen(context.Background(), network, address)
	if err != nil {
		return nil, listenError(address, err)
	}
	return l, nil
}

// inUse is the error for an address that another program has.
type inUse struct{ address string }

func (e *inUse) Error() string {
	return fmt.Sprintf(`another program listens on %s; stop it ("ss -ltnp" shows which) or choose another port`, e.address)
}

func (e *inUse) Unwrap() error { return syscall.EADDRINUSE }

func listenError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &inUse{address}
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("no right to listen on %s; ports below 1024 need root, the capability CAP_NET_BIND_SERVICE, or the sysctl net.ipv4.ip_unprivileged_port_start: give one of them, or choose a port above", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is not an address of this machine; 0.0.0.0 stands for all of IPv4, [::] for all of IPv6", address)
	}
	return fmt.Errorf(`%w; an address is written "host:port", such as "0.0.0.0:110"`, err)
}
