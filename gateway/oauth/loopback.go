package oauth

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Loopback waits for a browser that a provider redirects to this machine (RFC
// 8252 §7.3).
type Loopback struct {
	// URL is the redirect address.
	URL string

	listeners []net.Listener
	server    *http.Server
	queries   chan url.Values
	answers   chan error
}

// Loopback listens where the provider is to send the browser: at RedirectURL, or
// at any free port of it. It fails with an error if that is no address of this
// machine, as with a client that is registered for a web page; its URL is set
// even so.
func (p *Provider) Loopback() (*Loopback, error) {
	u, err := url.Parse(p.options.RedirectURL)
	if err != nil {
		return nil, err
	}
	l := &Loopback{URL: u.String(), queries: make(chan url.Values), answers: make(chan error, 1)}
	if !isLoopback(u.Hostname()) || u.Scheme != "http" {
		return l, fmt.Errorf("redirect_url %s is not of this machine", u)
	}
	port := u.Port()
	if port == "" {
		port = "0"
	}
	// A browser may take localhost for either address.
	hosts := []string{"127.0.0.1", "::1"}
	if !strings.EqualFold(u.Hostname(), "localhost") {
		hosts = []string{u.Hostname()}
	}
	for _, host := range hosts {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			if len(l.listeners) > 0 { // there is no IPv6 here
				continue
			}
			return l, err
		}
		l.listeners = append(l.listeners, listener)
		_, port, _ = net.SplitHostPort(listener.Addr().String())
	}
	if !hasPort(u) {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	l.URL = u.String()
	l.server = &http.Server{Handler: http.HandlerFunc(l.serve), ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	for _, listener := range l.listeners {
		go l.server.Serve(listener)
	}
	return l, nil
}

// Query waits for the browser, and returns what it came with. Answer must follow.
func (l *Loopback) Query(ctx context.Context) (url.Values, error) {
	select {
	case q := <-l.queries:
		return q, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Answer tells the browser how it went.
func (l *Loopback) Answer(err error) {
	select {
	case l.answers <- err:
	default:
	}
}

// Close ends it once the browser was answered.
func (l *Loopback) Close() error {
	if l.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return l.server.Shutdown(ctx)
}

func (l *Loopback) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if r.Method != http.MethodGet || !q.Has("state") { // a browser asks for an icon as well
		http.NotFound(w, r)
		return
	}
	text := "This can be closed: the gateway is authorised."
	select {
	case l.queries <- q:
		select {
		case err := <-l.answers:
			if err != nil {
				text = "The gateway was not authorised. The command says why."
			}
		case <-r.Context().Done():
			return
		}
	case <-r.Context().Done():
		return
	case <-time.After(5 * time.Second): // nobody waits any more
		text = "This login is over."
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, text)
}
