package admin

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pop3gw/gateway"
)

const (
	maxRows      = 200 // of sessions on the page
	maxShown     = 80  // octets of a name
	pageRefresh  = 10 * time.Second
	pagePatience = 500 * time.Millisecond // for checks of adapters
	soonExpired  = 14 * 24 * time.Hour
	// Of a sparkline, in its own units.
	sparkWidth, sparkHeight = 180, 32
)

var (
	//go:embed page.html
	pageText string
	//go:embed style.css
	style string

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

func serveStyle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=300")
	fmt.Fprint(w, style)
}

// view is what the page is made of: texts, ready to be shown.
type view struct {
	Hostname, Version, Up, At string
	Refresh                   int // seconds; 0 is off
	Query                     string
	Draining                  bool
	Tiles                     []tile
	Upstreams                 []upstreamRow
	Listeners                 []listenerRow
	Certificates              []certificateRow
	Sessions                  []sessionRow
	Found, All                int
}

type tile struct {
	Label, Value, Unit, Note string
	Bad                      bool
	Spark                    string // points of a line, or ""
}

type upstreamRow struct {
	Name, Type, State, Reason, Checked string
	Bad, Unknown                       bool
	Stats                              []stat
}

type stat struct{ Label, Value string }

type listenerRow struct {
	Address                          string
	Authorization, Transaction, Updt int64
	Begun                            string
}

type certificateRow struct {
	File, Names, Until, Left string
	Bad                      bool
}

type sessionRow struct {
	ID, State, User, Address, Listener, TLS, Adapter string
	For, Command, Idle, Messages, Sent, Received     string
	Running                                          bool
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	v := s.view(r)
	var b strings.Builder
	if err := pageTemplate.Execute(&b, v); err != nil {
		s.log.Error("the status page could not be made", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, b.String())
}

func (s *Server) view(r *http.Request) view {
	now := time.Now()
	g := s.options.Gateway
	v := view{
		Hostname: cmp.Or(g.Hostname, "localhost"), Version: g.Version, Up: brief(now.Sub(s.started)),
		At: now.UTC().Format("15:04:05 UTC"), Query: r.URL.Query().Get("q"), Draining: s.health.draining.Load(),
	}
	if r.URL.Query().Get("refresh") != "off" && v.Query == "" {
		v.Refresh = int(pageRefresh.Seconds())
	}
	ctx, cancel := context.WithTimeout(r.Context(), pagePatience)
	defer cancel()
	for _, f := range s.health.look(ctx, checkLife) {
		v.Upstreams = append(v.Upstreams, upstreamOf(f))
	}
	for _, l := range g.Listeners() {
		v.Listeners = append(v.Listeners, listenerRow{l.Address, l.Sessions[gateway.Authorization], l.Sessions[gateway.Transaction],
			l.Sessions[gateway.Update], grouped(l.Begun)})
	}
	for _, c := range s.options.Certificates() {
		left := c.NotAfter.Sub(now)
		row := certificateRow{File: c.File, Names: strings.Join(c.Names, ", "), Until: c.NotAfter.UTC().Format(time.DateOnly),
			Left: "for " + brief(left), Bad: left < soonExpired}
		if left <= 0 {
			row.Left = "expired"
		}
		v.Certificates = append(v.Certificates, row)
	}
	sessions := s.sessions()
	v.All = len(sessions)
	v.Tiles = s.tiles(len(sessions))
	sessions = slices.DeleteFunc(sessions, func(s Session) bool { return !s.matches(v.Query) })
	v.Found = len(sessions)
	// Those that do something come first, then those that did last.
	slices.SortStableFunc(sessions, func(a, b Session) int {
		if a.Waiting != b.Waiting {
			if b.Waiting {
				return -1
			}
			return 1
		}
		return b.Active.Compare(a.Active)
	})
	for _, session := range sessions[:min(len(sessions), maxRows)] {
		v.Sessions = append(v.Sessions, rowOf(session, now))
	}
	return v
}

// matches reports whether a part of what identifies the session is query.
func (s Session) matches(query string) bool {
	query = strings.ToLower(query)
	for _, text := range []string{s.ID, s.User, s.Address, s.Listener, s.Adapter, s.State, s.Command} {
		if strings.Contains(strings.ToLower(text), query) {
			return true
		}
	}
	return query == ""
}

func (s *Server) tiles(sessions int) []tile {
	h := s.rates.history()
	most := s.options.maxSessions()
	refused := tile{Label: "Refused logins", Value: perMinute(h.rejected), Unit: "a minute", Spark: spark(h.rejectedEach), Bad: h.rejected > 1}
	if h.failed > 0 {
		refused.Note, refused.Bad = perMinute(h.failed)+" failed besides", true
	}
	sent, unit := octets(h.sent)
	received, receivedUnit := octets(h.received)
	return []tile{
		{Label: "Sessions", Value: grouped(uint64(sessions)), Unit: "now", Note: "of " + grouped(uint64(most)) + " allowed",
			Spark: spark(h.sessions), Bad: sessions*10 >= most*9},
		{Label: "Logins", Value: perMinute(h.accepted), Unit: "a minute", Spark: spark(h.acceptedEach)},
		refused,
		{Label: "Sent", Value: sent, Unit: unit + "/s", Note: received + " " + receivedUnit + "/s received", Spark: spark(h.sentEach)},
		{Label: "Messages", Value: perMinute(h.messages), Unit: "a minute", Note: "sent whole", Spark: spark(h.messagesEach)},
		{Label: "Commands", Value: rate(h.commands), Unit: "a second", Spark: spark(h.commandsEach)},
	}
}

func upstreamOf(f finding) upstreamRow {
	row := upstreamRow{Name: f.Name, Type: f.Type, State: "reached", Unknown: !f.Known}
	switch {
	case !f.Known:
		row.State = "asking…"
	case f.Err != nil:
		row.State, row.Reason, row.Bad = "not reached", printable(f.reason()), true
	}
	if f.Known {
		row.Checked = fmt.Sprintf("%s ago, in %.1f ms", ago(f.At), 1000*f.Took.Seconds())
	}
	hits := make(map[string][2]uint64)
	var caches []string
	for _, counted := range statsOf(f.Adapter.Adapter) {
		switch counted.Kind {
		case gateway.UpstreamConnections:
			row.Stats = append(row.Stats, stat{"connections " + counted.Name, grouped(counted.Value)})
		case gateway.UpstreamWaiting:
			row.Stats = append(row.Stats, stat{"sessions that wait for a " + counted.Name, grouped(counted.Value)})
		case gateway.UpstreamLeftAlone:
			row.Stats = append(row.Stats, stat{counted.Name + "s left alone for a while", grouped(counted.Value)})
		default:
			if !slices.Contains(caches, counted.Name) {
				caches = append(caches, counted.Name)
			}
			n := hits[counted.Name]
			if counted.Kind == gateway.CacheHits {
				n[0] += counted.Value
			} else {
				n[1] += counted.Value
			}
			hits[counted.Name] = n
		}
	}
	for _, name := range caches {
		n := hits[name]
		value := "–"
		if all := n[0] + n[1]; all > 0 {
			value = fmt.Sprintf("%.0f %% of %s", 100*float64(n[0])/float64(all), grouped(all))
		}
		row.Stats = append(row.Stats, stat{name + "s remembered", value})
	}
	return row
}

func rowOf(s Session, now time.Time) sessionRow {
	row := sessionRow{
		ID: s.ID, State: s.State, User: shorten(s.User, maxShown), Address: s.Address, Listener: s.Listener, TLS: s.TLS, Adapter: s.Adapter,
		For: brief(now.Sub(s.Started)), Command: s.Command, Idle: brief(now.Sub(s.Active)), Running: !s.Waiting && s.Command != "",
	}
	if s.State != gateway.Authorization.String() {
		row.Messages = fmt.Sprintf("%d of %d", s.Retrieved, s.Messages)
	}
	sent, unit := octets(float64(s.OctetsSent))
	row.Sent = sent + " " + unit
	received, unit := octets(float64(s.OctetsReceived))
	row.Received = received + " " + unit
	return row
}

// printable is text that may come from anywhere, as one line that shows what is
// in it: quoted if it holds what cannot be seen.
func printable(text string) string {
	const maxReason = 600 // octets
	return shorten(text, maxReason)
}

func shorten(text string, most int) string {
	cut := len(text) > most
	if cut {
		for most--; most > 0 && !utf8.RuneStart(text[most]); most-- {
		}
		text = text[:most]
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		text = strconv.QuoteToASCII(text)
	}
	if cut {
		text += "…"
	}
	return text
}

// spark is a line over the last quarter of an hour, as points of SVG, its right end
// being now. Without anything to see it is "".
func spark(values []float64) string {
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	if len(values) < 2 || most == 0 {
		return ""
	}
	var b strings.Builder
	step := float64(sparkWidth) / (maxSamples - 1)
	for i, v := range values {
		x := sparkWidth - step*float64(len(values)-1-i)
		fmt.Fprintf(&b, "%.1f,%.1f ", max(x, 0), 1+(sparkHeight-2)*(1-v/most))
	}
	return strings.TrimSuffix(b.String(), " ")
}

func ago(t time.Time) string { return brief(time.Since(t)) }

// brief is a time in its largest unit or two.
func brief(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// octets is a number of octets with its unit.
func octets(n float64) (value, unit string) {
	for _, unit := range []string{"B", "KB", "MB", "GB"} {
		if n < 999.5 {
			if n < 9.95 && unit != "B" {
				return strconv.FormatFloat(n, 'f', 1, 64), unit
			}
			return strconv.FormatFloat(math.Round(n), 'f', 0, 64), unit
		}
		n /= 1000
	}
	return strconv.FormatFloat(n, 'f', 1, 64), "TB"
}

func perMinute(perSecond float64) string { return rate(60 * perSecond) }

func rate(v float64) string {
	if v < 10 && v != math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return grouped(uint64(math.Round(v)))
}

// grouped is n with its thousands apart.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}
