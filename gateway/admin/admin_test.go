package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// store is an adapter that says of itself what it is told to.
type store struct {
	*maildroptest.Memory
	err    error
	wait   time.Duration
	checks atomic.Int64
}

func (s *store) Check(ctx context.Context) error {
	s.checks.Add(1)
	select {
	case <-time.After(s.wait):
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *store) Report(each func(gateway.Stat)) {
	each(gateway.Stat{Kind: gateway.UpstreamConnections, Name: "used", Value: 3})
	each(gateway.Stat{Kind: gateway.UpstreamConnections, Name: "kept", Value: 2})
	each(gateway.Stat{Kind: gateway.UpstreamWaiting, Name: "connection", Value: 1})
	each(gateway.Stat{Kind: gateway.UpstreamLeftAlone, Name: "account", Value: 4})
	each(gateway.Stat{Kind: gateway.CacheHits, Name: "listing", Value: 9})
	each(gateway.Stat{Kind: gateway.CacheMisses, Name: "listing", Value: 1})
}

// rig is a gateway with its operator.
type rig struct {
	t        *testing.T
	store    *store
	gateway  *gateway.Server
	listener *maildroptest.Listener
	admin    *Server
}

func newRig(t *testing.T, o Options) *rig {
	r := &rig{t: t, store: &store{Memory: new(maildroptest.Memory)}, listener: maildroptest.NewListener()}
	r.store.Add("alice", maildroptest.Message{UID: "1", Raw: []byte("Subject: x\r\n\r\nbody\r\n")})
	r.gateway = &gateway.Server{Hostname: "pop.example.org", Version: "1.2.3", Accounts: r, Log: slog.New(slog.DiscardHandler),
		Limits: gateway.Limits{LoginFailureDelay: 1}}
	o.Gateway, o.Log = r.gateway, r.gateway.Log
	o.Adapters = func() []Adapter { return []Adapter{{"office", "imap", r.store}} }
	o.Certificates = func() []Certificate {
		return []Certificate{{File: "/etc/pop3gw/tls.crt", Names: []string{"pop.example.org"}, NotAfter: time.Unix(1.9e9, 0)}}
	}
	o.Limits = func() gateway.Limits { return gateway.Limits{MaxConnections: 9000} } // since a reload
	o.PasswordCache = func() (hits, misses uint64) { return 7, 5 }
	r.admin = New(o)
	go r.gateway.Serve(r.listener, gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways})
	waitUntil(t, func() bool { return len(r.gateway.Listeners()) == 1 })
	t.Cleanup(func() {
		r.gateway.Shutdown(context.Background())
		r.admin.Shutdown(context.Background())
	})
	return r
}

// Login lets everybody in but those with the password "wrong".
func (r *rig) Login(_ context.Context, c gateway.Credentials) (gateway.Account, error) {
	if c.Password == "wrong" {
		return gateway.Account{}, gateway.Refused(nil)
	}
	return gateway.Account{Name: c.User, Adapter: r.store, AdapterName: "office"}, nil
}

// say has a new client send commands, and reads replies up to the one that
// begins with until. The connection stays open.
func (r *rig) say(commands, until string) {
	r.t.Helper()
	nc, err := r.listener.Dial()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(nc, commands)
	var got []byte
	buf := make([]byte, 1000)
	for !strings.Contains(string(got), "\n"+until) {
		n, err := nc.Read(buf)
		if err != nil {
			r.t.Fatalf("%v after %q", err, got)
		}
		got = append(got, buf[:n]...)
	}
}

// get asks for a page as a browser on this machine would.
func (r *rig) get(target string, header ...string) *httptest.ResponseRecorder {
	return r.do(httptest.NewRequest("GET", target, nil), header...)
}

func (r *rig) do(request *http.Request, header ...string) *httptest.ResponseRecorder {
	request.Host = "127.0.0.1:8110"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			request.Host = header[i+1]
		}
		request.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.admin.http.Handler.ServeHTTP(w, request)
	return w
}

func (r *rig) want(w *httptest.ResponseRecorder, status int, texts ...string) {
	r.t.Helper()
	if w.Code != status {
		r.t.Errorf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			r.t.Errorf("%q is missing in:\n%s", text, w.Body)
		}
	}
}

const logIn = "USER alice\r\nPASS x\r\n"

func TestMetrics(t *testing.T) {
	r := newRig(t, Options{})
	r.say(logIn+"RETR 1\r\nTOP 1 0\r\nNOOP\r\nNOOP\r\nNONSENSE\r\nDELE 1\r\nQUIT\r\n", "+OK 1 messages removed")
	r.say("USER alice\r\nPASS wrong\r\n", "-ERR [AUTH]")
	r.say("", "")
	r.admin.health.look(t.Context(), time.Minute)
	waitUntil(t, func() bool { return len(r.gateway.Sessions()) == 2 })

	problems, err := testutil.GatherAndLint(r.admin.metrics.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	listener := r.listener.Addr().String()
	r.want(r.get("/metrics"), 200,
		`pop3gw_build_info{goversion="go1`, `version="1.2.3"} 1`,
		`pop3gw_sessions{listener="`+listener+`",state="authorization"} 2`,
		`pop3gw_sessions{listener="`+listener+`",state="transaction"} 0`,
		`pop3gw_sessions_started_total{listener="`+listener+`"} 3`,
		`pop3gw_sessions_ended_total{reason="quit"} 1`,
		`pop3gw_sessions_limit 9000`,
		`pop3gw_logins_total{adapter="",mechanism="USER",result="refused"} 1`,
		`pop3gw_logins_total{adapter="office",mechanism="USER",result="ok"} 1`,
		`pop3gw_login_duration_seconds_count{adapter="office",result="ok"} 1`,
		`pop3gw_retr_first_octet_seconds_count{adapter="office"} 1`,
		`pop3gw_update_duration_seconds_count{adapter="office",result="ok"} 1`,
		`pop3gw_commands_total{command="NOOP"} 2`,
		`pop3gw_commands_total{command="USER"} 2`,
		`pop3gw_commands_total{command="other"} 1`,
		`pop3gw_commands_total{command="STLS"} 0`,
		`pop3gw_messages_total{operation="retr"} 1`,
		`pop3gw_messages_total{operation="top"} 1`,
		`pop3gw_messages_total{operation="dele"} 1`,
		`pop3gw_received_bytes_total `,
		`pop3gw_sent_bytes_total `,
		`pop3gw_session_duration_seconds_count 1`,
		`pop3gw_upstream_connections{adapter="office",state="kept"} 2`,
		`pop3gw_upstream_connections{adapter="office",state="used"} 3`,
		`pop3gw_upstream_waiting_sessions{adapter="office",queue="connection"} 1`,
		`pop3gw_upstream_left_alone{adapter="office",what="account"} 4`,
		`pop3gw_cache_requests_total{adapter="office",cache="listing",result="hit"} 9`,
		`pop3gw_cache_requests_total{adapter="office",cache="listing",result="miss"} 1`,
		`pop3gw_cache_requests_total{adapter="",cache="password",result="hit"} 7`,
		`pop3gw_adapter_up{adapter="office"} 1`,
		`pop3gw_certificate_expiry_timestamp_seconds{certificate="/etc/pop3gw/tls.crt"} 1.9e+09`,
		"go_goroutines ", "process_open_fds ",
	)
}

// Nothing that a client chooses becomes a label.
func TestCardinality(t *testing.T) {
	r := newRig(t, Options{})
	series := func() (lines int) {
		body := r.get("/metrics").Body.String()
		if strings.Contains(body, "stranger") {
			t.Errorf("a client's word is in:\n%s", body)
		}
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "pop3gw_") {
				lines++
			}
		}
		return lines
	}
	attack := func(i int) {
		r.say(fmt.Sprintf("USER stranger%d\r\nPASS wrong\r\nSTRANGER%d\r\nAUTH STRANGER%d\r\nQUIT\r\n", i, i, i), "+OK bye")
	}
	attack(0)
	waitUntil(t, func() bool { return len(r.gateway.Sessions()) == 0 })
	series() // has the adapters checked
	waitUntil(t, func() bool { return strings.Contains(r.get("/metrics").Body.String(), "pop3gw_adapter_up") })
	before := series()
	for i := range 50 {
		attack(i + 1)
	}
	if after := series(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}

func waitUntil(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come about")
		}
	}
}

func TestResultOf(t *testing.T) {
	for _, tt := range []struct {
		err     error
		givenUp bool
		want    string
	}{
		{nil, false, "ok"},
		{gateway.Refused(nil), false, "refused"},
		{gateway.Refused(nil), true, "refused"},
		{gateway.InUse(nil), false, "in_use"},
		{gateway.Unavailable("x", nil), false, "unavailable"},
		{gateway.Unavailable("x", nil), true, "given_up"},
		{gateway.Unusable("x", nil), false, "unusable"},
		{errors.New("x"), false, "unavailable"},
		{context.Canceled, true, "given_up"},
	} {
		if got := resultOf(gateway.LoginAttempt{Err: tt.err, GivenUp: tt.givenUp}); got != tt.want {
			t.Errorf("%v, given up %v: %s, want %s", tt.err, tt.givenUp, got, tt.want)
		}
	}
}

func TestHealth(t *testing.T) {
	r := newRig(t, Options{})
	r.want(r.get("/healthz"), 200, "ok\n")
	r.want(r.get("/readyz"), 200, "ready\nadapter office: reached (checked 0 s ago)\n")
	r.store.err = gateway.Unavailable("try later", errors.New("dial tcp: connection refused; mend address\n\x1b[31m"))
	r.admin.health.checks["office"].at = time.Now().Add(-time.Hour)
	const down = `not ready` + "\n" + `adapter office: not reached: "dial tcp: connection refused; mend address\n\x1b[31m" (checked 0 s ago)` + "\n"
	r.want(r.get("/readyz"), 503, down)
	r.want(r.get("/readyz/office"), 503, down)
	r.want(r.get("/readyz?exclude=office"), 200, "ready\n")
	r.want(r.get("/readyz/nothing"), 404, "no such adapter")
	r.want(r.get("/healthz"), 200, "ok\n") // it lives all the same
	if n := r.store.checks.Load(); n != 2 {
		t.Errorf("%d checks, want 2: what was found is good for a while", n)
	}
	r.store.err = nil
	r.admin.health.checks["office"].at = time.Now().Add(-time.Hour)
	r.admin.Draining()
	r.want(r.get("/readyz"), 503, "not ready\nthe gateway is shutting down\nadapter office: reached")
	r.want(r.get("/"), 200, "shutting down")
}

// A store that does not answer keeps nobody waiting, and is asked once.
func TestHealthOfASlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{Memory: new(maildroptest.Memory), wait: time.Hour}
		h := newHealth(t.Context(), func() []Adapter { return []Adapter{{"office", "imap", s}} })
		if f := h.last(scrapeLife); f[0].Known {
			t.Errorf("found %+v", f[0])
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if f := h.look(ctx, checkLife); f[0].Known || f[0].Err != errNotChecked {
				t.Errorf("found %+v", f[0])
			}
			cancel()
		}
		if f := h.look(t.Context(), checkLife); !f[0].Known || !errors.Is(f[0].Err, context.DeadlineExceeded) || f[0].Took != checkTimeout {
			t.Errorf("found %+v", f[0])
		}
		if n := s.checks.Load(); n != 1 {
			t.Errorf("%d checks", n)
		}
		// What metrics are told stays until there is something newer.
		time.Sleep(2 * scrapeLife)
		s.wait = 0
		if f := h.last(scrapeLife); !f[0].Known || f[0].Err == nil {
			t.Errorf("found %+v", f[0])
		}
		synctest.Wait()
		if f := h.last(scrapeLife); !f[0].Known || f[0].Err != nil {
			t.Errorf("found %+v", f[0])
		}
	})
}

// A reload may put another adapter into an old one's place.
func TestHealthOfAnotherAdapter(t *testing.T) {
	current := &store{Memory: new(maildroptest.Memory), err: errors.New("is down")}
	h := newHealth(t.Context(), func() []Adapter { return []Adapter{{"office", "imap", current}} })
	if f := h.look(t.Context(), checkLife); f[0].Err == nil {
		t.Error("it was reached")
	}
	current = &store{Memory: new(maildroptest.Memory)}
	if f := h.look(t.Context(), checkLife); f[0].Err != nil {
		t.Errorf("%v is the old one's", f[0].Err)
	}
}

func TestToken(t *testing.T) {
	r := newRig(t, Options{Token: "0123456789abcdef"})
	r.store.err = errors.New("a secret reason")
	basic := func(user, password string) string {
		request := httptest.NewRequest("GET", "/", nil)
		request.SetBasicAuth(user, password)
		return request.Header.Get("Authorization")
	}
	for _, path := range []string{"/", "/metrics", "/api/sessions"} {
		r.want(r.get(path), 401, "the token of [admin] is wanted")
		r.want(r.get(path, "Authorization", "Bearer 0123456789abcdeF"), 401)
		r.want(r.get(path, "Authorization", "Bearer "), 401)
		r.want(r.get(path, "Authorization", basic("0123456789abcdef", "")), 401)
		r.want(r.get(path, "Authorization", "Bearer 0123456789abcdef"), 200)
		r.want(r.get(path, "Authorization", basic("anybody", "0123456789abcdef")), 200)
		r.want(r.get(path, "Authorization", basic("", "0123456789abcdef"), "Host", "pop.elsewhere.example"), 200)
	}
	if got := r.get("/").Header().Get("WWW-Authenticate"); got != `Basic realm="pop3gw", charset="UTF-8"` {
		t.Errorf("browsers are told %q", got)
	}
	r.want(r.get("/healthz"), 200)
	w := r.get("/readyz")
	r.want(w, 503, "not ready\n")
	if strings.Contains(w.Body.String(), "office") || strings.Contains(w.Body.String(), "reason") {
		t.Errorf("a stranger is told:\n%s", w.Body)
	}
	r.want(r.get("/readyz", "Authorization", "Bearer 0123456789abcdef"), 503, "office: not reached: a secret reason")
	r.say(logIn, "+OK 1 ")
	kick := "/api/sessions/" + r.gateway.Sessions()[0].ID + "/kick"
	r.want(r.do(httptest.NewRequest("POST", kick, nil)), 401)
	r.want(r.do(httptest.NewRequest("POST", kick, nil), "Authorization", "Bearer 0123456789abcdef"), 204)
}

// A web site whose name leads here sees nobody.
func TestForeignNames(t *testing.T) {
	r := newRig(t, Options{})
	for host, ours := range map[string]bool{
		"127.0.0.1:8110": true, "[::1]:8110": true, "192.0.2.1": true, "localhost:8110": true, "pop3gw:8110": true, "POP.example.org:8110": true,
		"rebound.example:8110": false, "127.0.0.1.rebound.example": false, "pop.example.org.rebound.example:80": false,
	} {
		status := map[bool]int{true: 200, false: 403}[ours]
		r.want(r.get("/", "Host", host), status)
		r.want(r.get("/api/sessions", "Host", host), status)
	}
	r.want(r.get("/metrics", "Host", "monitor.example:8110"), 200) // names nobody
}

func TestSessionsAPI(t *testing.T) {
	r := newRig(t, Options{})
	r.want(r.get("/api/sessions"), 200, "[]\n")
	r.say(logIn+"RETR 1\r\n", ".\r\n")
	w := r.get("/api/sessions")
	var sessions []map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &sessions); err != nil || len(sessions) != 1 {
		t.Fatalf("%v: %s", err, w.Body)
	}
	s := sessions[0]
	keys := []string{}
	for key := range s {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if want := "active adapter address command id listener mechanism messages octets_received octets_sent retrieved since started state tls user waiting"; strings.Join(keys, " ") != want {
		t.Errorf("keys are %v\nwant %s", keys, want)
	}
	if s["user"] != "alice" || s["adapter"] != "office" || s["state"] != "transaction" || s["address"] != "127.0.0.1" || s["messages"] != 1.0 {
		t.Errorf("session %v", s)
	}
	r.want(r.do(httptest.NewRequest("POST", "/api/sessions/NOBODY/kick", nil)), 404, `there is no session "NOBODY"`)
	r.want(r.get("/api/sessions/"+s["id"].(string)+"/kick"), 405)
	r.want(r.do(httptest.NewRequest("POST", "/api/sessions/"+s["id"].(string)+"/kick", nil)), 204)
	waitUntil(t, func() bool { return len(r.gateway.Sessions()) == 0 })
}

func TestKickFromPage(t *testing.T) {
	r := newRig(t, Options{})
	r.say(logIn, "+OK 1 ")
	id := r.gateway.Sessions()[0].ID
	r.want(r.get("/"), 200, `name="id" value="`+id+`"`)
	post := func(header ...string) *httptest.ResponseRecorder {
		request := httptest.NewRequest("POST", "/kick", strings.NewReader(url.Values{"id": {id}}.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r.do(request, header...)
	}
	r.want(post("Sec-Fetch-Site", "cross-site"), 403)
	r.want(post("Origin", "https://elsewhere.example"), 403)
	if len(r.gateway.Sessions()) != 1 {
		t.Fatal("another web site has ended a session")
	}
	w := post("Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:8110")
	r.want(w, 303)
	if to := w.Header().Get("Location"); to != "/" {
		t.Errorf("it leads to %q", to)
	}
	waitUntil(t, func() bool { return len(r.gateway.Sessions()) == 0 })
	r.want(post(), 303) // it has ended already
}

func TestPage(t *testing.T) {
	r := newRig(t, Options{})
	r.say(logIn, "+OK 1 ")
	r.want(r.get("/"), 200, "<h1>pop.example.org</h1>", "pop3gw 1.2.3", `http-equiv="refresh" content="10"`, "<bdi>alice</bdi>",
		"office", "reached", "connections kept", "90 % of 10", "2030-03-17", "sessions that wait for a connection", "accounts left alone for a while", r.listener.Addr().String())
	for target, wanted := range map[string]bool{"/?refresh=off": true, "/?q=alice": true, "/?q=ALI": true, "/?q=office": true, "/?q=bob": false} {
		w := r.get(target)
		r.want(w, 200)
		if strings.Contains(w.Body.String(), "http-equiv") {
			t.Errorf("%s refreshes by itself", target)
		}
		if got := strings.Contains(w.Body.String(), "<bdi>alice</bdi>"); got != wanted {
			t.Errorf("%s shows alice: %v", target, got)
		}
	}
	r.want(r.get("/?q=bob"), 200, "None is like that.", "0 of 1")
	r.want(r.get("/style.css"), 200, "@media (prefers-color-scheme: dark)")
	r.want(r.get("/nothing"), 404)
	if strings.Contains(r.get("/").Body.String(), "<script") {
		t.Error("the page has a script")
	}
	csp := r.get("/").Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; style-src 'self';") || strings.Contains(csp, "unsafe") {
		t.Errorf("the page may: %s", csp)
	}
}

// Names that clients choose are shown as what they are.
func TestPageOfHostileNames(t *testing.T) {
	r := newRig(t, Options{})
	for _, name := range []string{`<script>alert(1)</script>`, `"><img/src=x/onerror=alert(2)>`, "'onmouseover='x", "{{.Hostname}}", "\u202etxt.exe", "a\xffb", strings.Repeat("x", 240)} {
		r.say("USER "+name+"\r\nPASS wrong\r\n", "-ERR [AUTH]")
	}
	w := r.get("/?q=" + url.QueryEscape(`"><script>alert(3)</script>`))
	r.want(w, 200, `value="&#34;&gt;&lt;script&gt;alert(3)&lt;/script&gt;"`)
	page := r.get("/").Body.String()
	for _, want := range []string{`<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>`, `<bdi>&#34;&gt;&lt;img/src=x/onerror=alert(2)&gt;</bdi>`,
		`<bdi>&#39;onmouseover=&#39;x</bdi>`, `<bdi>{{.Hostname}}</bdi>`, `<bdi>&#34;\u202etxt.exe&#34;</bdi>`, `<bdi>&#34;a\xffb&#34;</bdi>`,
		`<bdi>` + strings.Repeat("x", 79) + `…</bdi>`} {
		if !strings.Contains(page, want) {
			t.Errorf("%s is missing in\n%s", want, page)
		}
	}
	if m := regexp.MustCompile(`<script|<img|\x{202e}`).FindString(page + w.Body.String()); m != "" {
		t.Errorf("%q is in the page", m)
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway.Server{}
		m := newMetrics(Options{Gateway: g, Adapters: func() []Adapter { return nil }, Certificates: func() []Certificate { return nil }}, nil)
		r := newRates(g, m)
		go r.run(t.Context())
		for range 30 * 60 { // half an hour
			time.Sleep(time.Second)
			m.accepted.Add(2)
		}
		synctest.Wait()
		h := r.history()
		if h.accepted < 1.9 || h.accepted > 2.1 {
			t.Errorf("%v logins a second, want 2", h.accepted)
		}
		if h.over < minuteSpan || h.over > minuteSpan+2*samplePeriod {
			t.Errorf("the rate is over %v", h.over)
		}
		if n := len(r.samples); n != maxSamples {
			t.Errorf("%d samples are kept", n)
		}
		points := strings.Fields(spark(h.acceptedEach))
		if len(points) != maxSamples-1 || !strings.HasPrefix(points[len(points)-1], "180.0,") {
			t.Errorf("%d points, the last is %s", len(points), points[len(points)-1])
		}
	})
}

func TestUnits(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 999: "999 B", 1000: "1.0 KB", 9960: "10 KB", 999_400: "999 KB", 1_500_000: "1.5 MB", 3e9: "3.0 GB", 5e12: "5.0 TB"} {
		if value, unit := octets(n); value+" "+unit != want {
			t.Errorf("%v is %s %s, want %s", n, value, unit, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 s", 90 * time.Second: "90 s", 3 * time.Minute: "3 min", 5 * time.Hour: "5 h", 72 * time.Hour: "3 days"} {
		if got := brief(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
