package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"pop3gw/gateway"
)

// Session is a live session, as /api/sessions has it. Its keys stay as they are.
type Session struct {
	ID             string    `json:"id"`       // as in the log
	State          string    `json:"state"`    // "authorization", "transaction" or "update"
	User           string    `json:"user"`     // who logged in, or tried to; may be any text before that
	Address        string    `json:"address"`  // the client's; "" if there is none
	Listener       string    `json:"listener"` // the address that it came by
	TLS            string    `json:"tls"`      // version, or "none"
	Mechanism      string    `json:"mechanism"`
	Adapter        string    `json:"adapter"`
	Started        time.Time `json:"started"`
	Since          time.Time `json:"since"`           // when it entered its state
	Active         time.Time `json:"active"`          // when the client was last heard of
	Command        string    `json:"command"`         // the running or the last one
	Waiting        bool      `json:"waiting"`         // for the client, and not running the command
	Messages       int       `json:"messages"`        // in the maildrop
	Retrieved      int       `json:"retrieved"`       // messages
	OctetsSent     int64     `json:"octets_sent"`     // to the client
	OctetsReceived int64     `json:"octets_received"` // from the client
}

func sessionOf(i gateway.SessionInfo) Session {
	s := Session{
		ID: i.ID, State: i.State.String(), User: i.User, Listener: i.Listener, TLS: i.TLS, Mechanism: i.Mechanism, Adapter: i.Adapter,
		Started: i.Started.UTC(), Since: i.Since.UTC(), Active: i.Active.UTC(), Command: i.Command, Waiting: i.Waiting,
		Messages: i.Messages, Retrieved: i.Retrieved, OctetsSent: i.Sent, OctetsReceived: i.Received,
	}
	if i.Address.IsValid() {
		s.Address = i.Address.String()
	}
	return s
}

func (s *Server) sessions() []Session {
	infos := s.options.Gateway.Sessions()
	sessions := make([]Session, len(infos))
	for i, info := range infos {
		sessions[i] = sessionOf(info)
	}
	return sessions
}

func (s *Server) listSessions(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s.sessions())
}

func (s *Server) kickSession(w http.ResponseWriter, r *http.Request) {
	if id := r.PathValue("id"); !s.options.Gateway.Kick(id) {
		http.Error(w, fmt.Sprintf("there is no session %q", id), http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// kickFromPage is what the buttons of the page do.
func (s *Server) kickFromPage(w http.ResponseWriter, r *http.Request) {
	s.options.Gateway.Kick(r.PostFormValue("id")) // if it has ended by itself, so be it
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
