// Package admin is what an operator sees of a running gateway, over HTTP:
//
//	/                      a page with rates, upstreams and live sessions
//	/metrics               for Prometheus
//	/healthz               200 while the process serves
//	/readyz                200 while every adapter can be reached; /readyz/NAME for one
//	/api/sessions          live sessions, as JSON
//	/api/sessions/ID/kick  by POST, ends one
//
// It is meant for loopback or a network of operators. With a token, all but the
// answers yes and no of /healthz and /readyz want it, as a bearer token or as the
// password of HTTP's Basic authentication with any name. Without one, pages that
// name users are shown only to requests by address, by a name without dots or by
// the gateway's own: a web site whose name leads here gets nothing (DNS
// rebinding).
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"pop3gw/gateway"
)

const (
	// maxConnections bounds those to the admin listener.
	maxConnections = 64
	requestTimeout = 10 * time.Second // for the whole of a request to come
	replyTimeout   = 60 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
)

// Options say what there is to see.
type Options struct {
	Gateway      *gateway.Server      // required; New becomes its Observer
	Adapters     func() []Adapter     // those in force, by name; nil is none
	Certificates func() []Certificate // those in force; nil is none
	// PasswordCache returns how often a password was known from before, and how
	// often it was checked; nil where that is not known.
	PasswordCache func() (hits, misses uint64)
	Limits        func() gateway.Limits // those in force; nil has those of Gateway
	Token         string                // what requests must present; "" is nothing
	Log           *slog.Logger          // nil is slog.Default()
}

// Adapter is one of the configuration.
type Adapter struct {
	Name, Type string
	Adapter    gateway.Adapter
}

// Certificate is one that clients may get.
type Certificate struct {
	File     string
	Names    []string
	NotAfter time.Time
}

// Server serves the operator. It is made by New.
type Server struct {
	options Options
	log     *slog.Logger
	token   [sha256.Size]byte
	started time.Time
	metrics *metrics
	health  *health
	rates   *rates
	http    *http.Server
	stop    context.CancelFunc // of what goes on in the background
}

// New returns a server for the operator of o.Gateway, which must not serve yet.
func New(o Options) *Server {
	if o.Adapters == nil {
		o.Adapters = func() []Adapter { return nil }
	}
	if o.Certificates == nil {
		o.Certificates = func() []Certificate { return nil }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{options: o, log: o.Log, token: sha256.Sum256([]byte(o.Token)), started: time.Now(), stop: stop}
	s.health = newHealth(ctx, o.Adapters)
	s.metrics = newMetrics(o, s.health)
	s.rates = newRates(o.Gateway, s.metrics)
	o.Gateway.Observer = s.metrics
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      replyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Log.With("listener", "admin").Handler(), slog.LevelDebug),
	}
	go s.rates.run(ctx)
	return s
}

// Serve answers requests that come by l, until Shutdown. It closes l.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(netutil.LimitListener(l, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Draining notes that the gateway shuts down: it is not ready any more.
func (s *Server) Draining() { s.health.draining.Store(true) }

// Shutdown ends Serve. Requests that run may end before ctx does.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	private := func(pattern string, h http.Handler) { mux.Handle(pattern, s.guard(h)) }
	private("GET /{$}", http.HandlerFunc(s.page))
	private("POST /kick", http.HandlerFunc(s.kickFromPage))
	private("GET /api/sessions", http.HandlerFunc(s.listSessions))
	private("POST /api/sessions/{id}/kick", http.HandlerFunc(s.kickSession))
	mux.Handle("GET /metrics", s.authorized(s.metrics.handler()))
	mux.HandleFunc("GET /style.css", serveStyle)
	mux.HandleFunc("GET /healthz", serveHealth)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /readyz/{adapter}", s.ready)
	return headers(http.NewCrossOriginProtection().Handler(mux))
}

// headers has browsers take every page for what it is, and run nothing.
func headers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// Not "no-referrer": over plain HTTP that makes browsers send "Origin: null" with
		// the page's own forms, which then look like another site's.
		w.Header().Set("Referrer-Policy", "same-origin")
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxHeaderBytes)
		h.ServeHTTP(w, r)
	})
}

// knows reports whether a request presents the token, where there is one.
func (s *Server) knows(r *http.Request) bool {
	if s.options.Token == "" {
		return true
	}
	presented, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !isBearer {
		_, presented, _ = r.BasicAuth()
	}
	sum := sha256.Sum256([]byte(presented))
	return subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

// authorized lets those pass who know the token.
func (s *Server) authorized(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.knows(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="pop3gw", charset="UTF-8"`)
			http.Error(w, "the token of [admin] is wanted, as a bearer token or as the password with any name", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// guard is for what names users.
func (s *Server) guard(h http.Handler) http.Handler {
	return s.authorized(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.options.Token == "" && !s.isOurs(r.Host) {
			http.Error(w, "this is asked for by a name that is not the gateway's; use its address, or set token in [admin]", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	}))
}

// isOurs reports whether a Host header is one that no foreign web site can cause.
func (s *Server) isOurs(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return !strings.Contains(name, ".") || strings.EqualFold(name, s.options.Gateway.Hostname)
}
