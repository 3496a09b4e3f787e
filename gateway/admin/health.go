package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pop3gw/gateway"
)

const (
	// checkLife is how long what was found of an adapter is good, so that probes
	// do not become a burden to mail servers.
	checkLife = 5 * time.Second
	// checkTimeout bounds a check of one adapter.
	checkTimeout = 5 * time.Second
	// scrapeLife is checkLife for metrics, which are asked for all the time.
	scrapeLife = time.Minute
)

// health knows whether adapters can be reached. It asks them when it is asked.
type health struct {
	ctx      context.Context // of checks
	adapters func() []Adapter
	draining atomic.Bool

	mu     sync.Mutex
	checks map[string]*check // by the adapter's name
}

// check is one look at an adapter.
type check struct {
	of   gateway.Adapter
	done chan struct{} // closed when what follows is set
	at   time.Time
	took time.Duration
	err  error
}

// finding is what is known of an adapter.
type finding struct {
	Adapter
	Known bool      // there was a check
	At    time.Time // of the check
	Took  time.Duration
	Err   error // nil if it was reached
}

func newHealth(ctx context.Context, adapters func() []Adapter) *health {
	return &health{ctx: ctx, adapters: adapters, checks: make(map[string]*check)}
}

var errNotChecked = errors.New("the check has not ended yet")

// look returns what is known of each adapter and not older than life. It waits
// for checks until ctx ends.
func (h *health) look(ctx context.Context, life time.Duration) []finding {
	adapters := h.adapters()
	checks := make([]*check, len(adapters))
	for i, a := range adapters {
		checks[i] = h.begin(a, life)
	}
	findings := make([]finding, len(adapters))
	for i, a := range adapters {
		findings[i] = finding{Adapter: a, At: time.Now(), Err: errNotChecked}
		select {
		case <-checks[i].done:
			findings[i] = finding{a, true, checks[i].at, checks[i].took, checks[i].err}
		case <-ctx.Done():
		}
	}
	return findings
}

// last returns what is known now, and sees to it that there is more the next time.
func (h *health) last(life time.Duration) []finding {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	var known []finding
	h.mu.Lock()
	before := make(map[string]*check, len(h.checks))
	for name, c := range h.checks {
		before[name] = c
	}
	h.mu.Unlock()
	for _, f := range h.look(now, life) {
		if c := before[f.Name]; !f.Known && c != nil && c.of == f.Adapter.Adapter && c.ended() {
			f = finding{f.Adapter, true, c.at, c.took, c.err}
		}
		known = append(known, f)
	}
	return known
}

func (c *check) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// begin returns a check of a that is young enough, or that runs.
func (h *health) begin(a Adapter, life time.Duration) *check {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.checks[a.Name]
	if c != nil && c.of == a.Adapter && (!c.ended() || time.Since(c.at) < life) {
		return c
	}
	c = &check{of: a.Adapter, done: make(chan struct{})}
	h.checks[a.Name] = c
	go func() {
		defer close(c.done)
		start := time.Now()
		ctx, cancel := context.WithTimeout(h.ctx, checkTimeout)
		defer cancel()
		if checker, ok := a.Adapter.(gateway.Checker); ok {
			c.err = checker.Check(ctx)
		}
		c.at, c.took = time.Now(), time.Since(start)
	}()
	return c
}

// reason is the error in words for the operator: of what clients are told and its
// cause, the cause.
func (f finding) reason() string {
	if f.Err == nil {
		return ""
	}
	var e *gateway.Error
	if errors.As(f.Err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return f.Err.Error()
}

func serveHealth(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// ready answers 200 if all adapters can be reached, or the one that is named.
// exclude, which may be given several times, leaves adapters out.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout+time.Second)
	defer cancel()
	name, excluded := r.PathValue("adapter"), r.URL.Query()["exclude"]
	var b strings.Builder
	ready, found := true, false
	if s.health.draining.Load() {
		ready = false
		b.WriteString("the gateway is shutting down\n")
	}
	private := s.knows(r)
	for _, f := range s.health.look(ctx, checkLife) {
		if name != "" && f.Name != name || slices.Contains(excluded, f.Name) {
			continue
		}
		found = true
		state := "reached"
		if f.Err != nil {
			ready = false
			state = "not reached"
			if private {
				state += ": " + printable(f.reason())
			}
		}
		if f.Known && private {
			state += fmt.Sprintf(" (checked %s ago)", ago(f.At))
		}
		if private {
			fmt.Fprintf(&b, "adapter %s: %s\n", f.Name, state)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	switch {
	case name != "" && !found:
		http.Error(w, "there is no such adapter", http.StatusNotFound)
	case !ready:
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "not ready\n", b.String())
	default:
		fmt.Fprint(w, "ready\n", b.String())
	}
}
