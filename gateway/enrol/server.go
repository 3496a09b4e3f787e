package enrol

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

const (
	maxConnections = 256
	requestTimeout = 15 * time.Second // for the whole of a request to come
	replyTimeout   = providerPatience + 15*time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 16 << 10
)

// Server serves a Page. It is made by NewServer.
type Server struct{ http *http.Server }

// NewServer returns a server of p.
func NewServer(p *Page) *Server {
	return &Server{&http.Server{
		Handler:           p,
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      replyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(p.log.With("listener", "enrol").Handler(), slog.LevelDebug),
	}}
}

// Serve answers requests that come by l, a listener with TLS, until Shutdown. It
// closes l.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(netutil.LimitListener(l, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown ends Serve once the requests are answered that have come, or when ctx
// ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}
