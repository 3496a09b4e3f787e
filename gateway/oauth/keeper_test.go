package oauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/oauth"
	"pop3gw/gateway/oauth/oauthtest"
)

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fixture is a provider, and a keeper with a grant of it for "jane".
type fixture struct {
	server   *oauthtest.Server
	provider *oauth.Provider
	store    *oauth.Memory
	keyFile  string
	keeper   *oauth.Keeper
	log      *lockedBuffer
}

// newFixture has server serve in process, or over HTTP where it listens.
func newFixture(t *testing.T, server *oauthtest.Server, transport http.RoundTripper) *fixture {
	t.Helper()
	f := &fixture{server: server, store: new(oauth.Memory), keyFile: filepath.Join(t.TempDir(), "key"), log: new(lockedBuffer)}
	var err error
	if f.provider, err = oauth.NewWithTransport("idp", server.Options(), transport); err != nil {
		t.Fatal(err)
	}
	f.keeper = f.another()
	f.consent(t, "jane")
	return f
}

// another is another process that shares the store.
func (f *fixture) another() *oauth.Keeper {
	return oauth.NewKeeper(f.store, f.keyFile, slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// consent authorises an account.
func (f *fixture) consent(t *testing.T, name string) *oauth.Grant {
	t.Helper()
	flow := f.provider.StartCode("http://127.0.0.1:9/", "")
	grant, err := flow.Finish(t.Context(), f.server.Browse(t, flow.URL).Query())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.keeper.Put(t.Context(), name, grant); err != nil {
		t.Fatal(err)
	}
	return grant
}

func (f *fixture) tokens() gateway.Tokens {
	return f.keeper.Tokens(f.provider, "jane", "jane@example.org")
}

// good checks that a token opens somebody's mail.
func (f *fixture) good(t *testing.T, token, owner string) {
	t.Helper()
	if got := f.server.Owner(token); got != owner {
		t.Errorf("the token opens the mail of %q, want %q", got, owner)
	}
}

// clean checks that no secret is in the log, nor in errors.
func (f *fixture) clean(t *testing.T, errs ...error) {
	t.Helper()
	told := f.log.String() + fmt.Sprint(errs)
	secrets := f.server.Secrets()
	if len(secrets) < 3 {
		t.Fatalf("only %d secrets were planted", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(told, secret) {
			t.Errorf("%s is in the log or an error:\n%s", secret, told)
		}
	}
}

func wantRefusal(t *testing.T, err error, code gateway.Code, text string, cause ...string) {
	t.Helper()
	var e *gateway.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Text, text) {
		t.Errorf("the client gets %v, want [%s] %q", err, code, text)
		return
	}
	for _, c := range cause {
		if !strings.Contains(fmt.Sprint(e.Err), c) {
			t.Errorf("the log gets %v, want %q in it", e.Err, c)
		}
	}
}

// With 1,000 sessions of one account that start together when its token is at
// its end, the provider sees one refresh; as it does with those of two gateways
// that share the state.
func TestOneRefresh(t *testing.T) {
	for _, processes := range []int{1, 3} {
		server := oauthtest.Start(t)
		f := newFixture(t, server, http.DefaultTransport)
		grant := f.consent(t, "jane")
		grant.Expiry = time.Now()
		if err := f.keeper.Put(t.Context(), "jane", grant); err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{})
		var waiting, sessions sync.WaitGroup
		var tokens sync.Map
		var failed atomic.Int32
		for n := range processes {
			keeper := f.keeper
			if n > 0 {
				keeper = f.another()
			}
			source := keeper.Tokens(f.provider, "jane", "jane@example.org")
			for range 1000 {
				waiting.Add(1)
				sessions.Go(func() {
					waiting.Done()
					<-gate
					token, err := source.Token(context.Background(), "")
					if err != nil {
						failed.Add(1)
						return
					}
					tokens.Store(token, true)
				})
			}
		}
		waiting.Wait()
		close(gate)
		sessions.Wait()
		distinct := 0
		tokens.Range(func(token, _ any) bool {
			distinct++
			f.good(t, token.(string), "jane@example.org")
			return true
		})
		if n := server.Count("refresh_token"); n != 1 || distinct != 1 || failed.Load() != 0 {
			t.Errorf("%d processes: %d refreshes, %d tokens, %d sessions failed", processes, n, distinct, failed.Load())
		}
		f.clean(t)
	}
}

// A token is refreshed before its end, and nobody waits for that.
func TestRefreshedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		f := newFixture(t, server, server.Transport())
		first, err := f.tokens().Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		slow := make(chan struct{})
		server.Change(func(s *oauthtest.Server) { s.Refreshing = func() { <-slow } })
		for range 54 {
			time.Sleep(time.Minute)
			if token, _ := f.tokens().Token(t.Context(), ""); token != first || server.Count("refresh_token") != 0 {
				t.Fatal("another token too early")
			}
		}
		time.Sleep(90 * time.Second)
		token, err := f.tokens().Token(t.Context(), "")
		if err != nil || token != first {
			t.Errorf("a session waits for a refresh, with %v", err)
		}
		close(slow)
		synctest.Wait()
		second, _ := f.tokens().Token(t.Context(), "")
		if second == first || server.Count("refresh_token") != 1 {
			t.Errorf("%d refreshes, another token: %v", server.Count("refresh_token"), second != first)
		}
		f.good(t, second, "jane@example.org")
		// Through all the refresh tokens that replace each other.
		for range 30 {
			time.Sleep(time.Hour)
			token, err := f.tokens().Token(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			f.good(t, token, "jane@example.org")
		}
		if server.Count("reused") != 0 {
			t.Error("a refresh token was used twice")
		}
		// After a restart, the stored token is good.
		before := server.Count("refresh_token")
		f.keeper = f.another()
		token, err = f.tokens().Token(t.Context(), "")
		if err != nil || server.Count("refresh_token") != before {
			t.Errorf("a restart: %v, %d refreshes", err, server.Count("refresh_token")-before)
		}
		f.good(t, token, "jane@example.org")
		f.clean(t)
	})
}

// A refusal says what to type, is not asked for again at each login, and leaves the
// grant. A new consent counts at once.
func TestRefusedRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		f := newFixture(t, server, server.Transport())
		server.RevokeUser("jane@example.org")
		time.Sleep(2 * time.Hour)
		var err error
		for range 10 {
			_, err = f.tokens().Token(t.Context(), "")
			wantRefusal(t, err, gateway.CodeAuth, "authorise again", `run "pop3gw oauth login jane"`, "jane@example.org", "invalid_grant")
		}
		if n := server.Count("refresh_token"); n != 1 {
			t.Errorf("%d refreshes", n)
		}
		if !strings.Contains(f.log.String(), `run="pop3gw oauth login jane"`) {
			t.Errorf("the log does not say what to type:\n%s", f.log)
		}
		// Another process, or this one after a restart, does not ask either.
		f.keeper = f.another()
		_, err = f.tokens().Token(t.Context(), "")
		wantRefusal(t, err, gateway.CodeAuth, "authorise again", "pop3gw oauth login jane")
		if n := server.Count("refresh_token"); n != 1 {
			t.Errorf("%d refreshes after a restart", n)
		}
		g, err := f.keeper.Grant(t.Context(), "jane")
		if err != nil || g.Refused.IsZero() || g.Refresh == "" {
			t.Errorf("the grant is %v, %v", g, err)
		}
		time.Sleep(11 * time.Minute)
		f.tokens().Token(t.Context(), "")
		if n := server.Count("refresh_token"); n != 2 {
			t.Errorf("%d refreshes after a while", n)
		}
		f.consent(t, "jane")
		token, err := f.tokens().Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.good(t, token, "jane@example.org")
		f.clean(t, err)
	})
}

// What is no refusal is told as that, and tried again soon.
func TestFailingRefresh(t *testing.T) {
	answer := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			oauthtest.Refuse(w, status, code, "about "+r.Form.Get("refresh_token"))
			return true
		}
	}
	const later, operator = "gives no token now, try again later", "please tell the administrator"
	for _, tt := range []struct {
		name  string
		fail  func(http.ResponseWriter, *http.Request) bool
		code  gateway.Code
		text  string
		cause string
		again time.Duration
	}{
		{"503", answer(503, ""), gateway.CodeSysTemp, later, "503", 5 * time.Second},
		{"429", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "40")
			return answer(429, "")(w, r)
		}, gateway.CodeSysTemp, later, "429", 41 * time.Second},
		{"temporarily_unavailable", answer(400, "temporarily_unavailable"), gateway.CodeSysTemp, later, "temporarily_unavailable", 5 * time.Second},
		{"invalid_client", answer(401, "invalid_client"), gateway.CodeSysPerm, operator, "mend client_id, client_secret or client_auth in [oauth.idp]", 61 * time.Second},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "<html>hello"); return true }, gateway.CodeSysPerm, operator, "is token_url in [oauth.idp] right?", 61 * time.Second},
		{"redirect", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://evil.example.org/", http.StatusTemporaryRedirect)
			return true
		}, gateway.CodeSysPerm, operator, "307", 61 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := oauthtest.New()
				f := newFixture(t, server, server.Transport())
				time.Sleep(2 * time.Hour)
				server.Change(func(s *oauthtest.Server) { s.Fail = tt.fail })
				var errs []error
				for range 100 {
					_, err := f.tokens().Token(t.Context(), "")
					wantRefusal(t, err, tt.code, tt.text, tt.cause)
					errs = append(errs, err)
				}
				if n := server.Count("/token"); n != 2 {
					t.Errorf("%d requests", n-1)
				}
				server.Change(func(s *oauthtest.Server) { s.Fail = nil })
				time.Sleep(tt.again)
				token, err := f.tokens().Token(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				f.good(t, token, "jane@example.org")
				f.clean(t, errs...)
			})
		})
	}
}

// A token that the mail server refuses is renewed, once, and not for ever.
func TestRefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		f := newFixture(t, server, server.Transport())
		for want := 1; want <= 3; want++ {
			old, _ := f.tokens().Token(t.Context(), "")
			var sessions sync.WaitGroup
			for range 50 {
				sessions.Go(func() {
					token, err := f.tokens().Token(t.Context(), old)
					if err != nil || token == old {
						t.Errorf("a refused token: %v", err)
					}
					if again, err := f.tokens().Token(t.Context(), token); err != nil || again != token {
						t.Errorf("refused as well, it was renewed, %v", err)
					}
				})
			}
			sessions.Wait()
			if n := server.Count("refresh_token"); n != want {
				t.Errorf("%d refreshes, want %d", n, want)
			}
			time.Sleep(renewAgain)
		}

		// Where a withdrawn consent is behind it, that is what the user is told.
		server.RevokeUser("jane@example.org")
		token, err := f.tokens().Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.tokens().Token(t.Context(), token)
		wantRefusal(t, err, gateway.CodeAuth, "authorise again", "invalid_grant")
	})
}

const renewAgain = 5 * time.Minute // as there

// A stored token that was got in the future, as it seems once the clock was set back,
// is not given out: nobody knows how old it is.
func TestClockSetBack(t *testing.T) {
	for _, tt := range []struct {
		back      time.Duration
		refreshes int
	}{{30 * time.Second, 0}, {2 * time.Minute, 1}, {24 * time.Hour, 1}} {
		synctest.Test(t, func(t *testing.T) {
			server := oauthtest.New()
			f := newFixture(t, server, server.Transport())
			grant := f.consent(t, "jane")
			grant.Issued, grant.Expiry = grant.Issued.Add(tt.back), grant.Expiry.Add(tt.back)
			if err := f.keeper.Put(t.Context(), "jane", grant); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				token, err := f.tokens().Token(t.Context(), "")
				if err != nil || token == grant.Access == (tt.refreshes > 0) || server.Count("refresh_token") != tt.refreshes {
					t.Errorf("set back by %v: %v, %d refreshes, want %d", tt.back, err, server.Count("refresh_token"), tt.refreshes)
				}
			}
		})
	}
}

// A gateway that ends while a token is refreshed behind its sessions stores it first.
func TestCloseDuringRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		f := newFixture(t, server, server.Transport())
		before, _ := f.keeper.Grant(t.Context(), "jane")
		server.Change(func(s *oauthtest.Server) { s.Refreshing = func() { time.Sleep(5 * time.Second) } })
		time.Sleep(56 * time.Minute)
		if token, err := f.tokens().Token(t.Context(), ""); err != nil || token != before.Access {
			t.Fatal("not refreshed behind the session", err)
		}
		f.keeper.Close()
		if after, err := f.keeper.Grant(t.Context(), "jane"); err != nil || after.Refresh == before.Refresh {
			t.Errorf("the store has the refresh token that was replaced, %v", err)
		}

		server.Change(func(s *oauthtest.Server) { s.Refreshing = func() { time.Sleep(time.Hour) } })
		time.Sleep(56 * time.Minute)
		f.tokens().Token(t.Context(), "")
		start := time.Now()
		f.keeper.Close()
		if waited := time.Since(start); waited > 30*time.Second {
			t.Errorf("it waits %v for a provider that hangs", waited)
		}
		time.Sleep(2 * time.Hour)
	})
}

// A grant that nobody uses lasts, at a provider that ends what is not used, and is
// asked for once a week.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		server.Idle = 90 * 24 * time.Hour
		f := newFixture(t, server, server.Transport())
		f.consent(t, "of nobody")
		other := f.consent(t, "of another client")
		other.Client = "another"
		if err := f.keeper.Put(t.Context(), "of another client", other); err != nil {
			t.Fatal(err)
		}
		providerOf := func(name string) *oauth.Provider {
			if name == "of nobody" {
				return nil
			}
			return f.provider
		}
		for range 200 {
			time.Sleep(24 * time.Hour)
			if err := f.keeper.KeepAlive(t.Context(), providerOf); err != nil {
				t.Fatal(err)
			}
		}
		if n := server.Count("refresh_token"); n < 200/8 || n > 200/7 {
			t.Errorf("%d refreshes in 200 days", n)
		}
		token, err := f.tokens().Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.good(t, token, "jane@example.org")

		// What has ended is left alone.
		server.RevokeUser("jane@example.org")
		before := server.Count("refresh_token")
		for range 50 {
			time.Sleep(24 * time.Hour)
			f.keeper.KeepAlive(t.Context(), providerOf)
		}
		if n := server.Count("refresh_token") - before; n != 1 {
			t.Errorf("%d refreshes of what has ended", n)
		}
		f.clean(t)
	})
}

// failingStore is a disk that is full.
type failingStore struct {
	*oauth.Memory
	full atomic.Bool
}

var errFull = errors.New("no space left on device")

func (s *failingStore) Save(ctx context.Context, name string, data []byte, old int64) (int64, error) {
	if s.full.Load() {
		return 0, errFull
	}
	return s.Memory.Save(ctx, name, data, old)
}

// A refresh token that replaces another is stored before it is used: where it
// cannot be, its access token serves and no more is asked of the provider.
func TestStoredBeforeUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		f := newFixture(t, server, server.Transport())
		store := &failingStore{Memory: f.store}
		f.keeper = oauth.NewKeeper(store, f.keyFile, slog.New(slog.NewTextHandler(f.log, nil)))
		time.Sleep(2 * time.Hour)
		store.full.Store(true)
		token, err := f.tokens().Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.good(t, token, "jane@example.org")
		if !strings.Contains(f.log.String(), "cannot be stored") {
			t.Errorf("the log does not tell:\n%s", f.log)
		}
		time.Sleep(2 * time.Hour)
		_, err = f.tokens().Token(t.Context(), "")
		wantRefusal(t, err, gateway.CodeSysTemp, "try again later", "no space left")
		if n := server.Count("refresh_token"); n != 1 {
			t.Errorf("%d refreshes with a full disk", n)
		}
		store.full.Store(false)
		time.Sleep(time.Minute)
		token, err = f.tokens().Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.good(t, token, "jane@example.org")
		f.keeper = f.another()
		token, err = f.tokens().Token(t.Context(), "")
		if err != nil || server.Count("reused") != 0 {
			t.Errorf("after a restart: %v, %d refresh tokens used twice", err, server.Count("reused"))
		}
		f.good(t, token, "jane@example.org")
	})
}

// A consent, or the end of one, counts whatever a refresh does meanwhile.
func TestChangedDuringRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := oauthtest.New()
		f := newFixture(t, server, server.Transport())
		time.Sleep(2 * time.Hour)
		var once sync.Once
		server.Change(func(s *oauthtest.Server) {
			s.Refreshing = func() {
				once.Do(func() {
					server.Change(func(s *oauthtest.Server) { s.User = "bob@example.org" })
					f.consent(t, "jane")
					// A session that sees the new one before the refresh ends.
					f.keeper.Tokens(f.provider, "jane", "").Authorization(t.Context())
				})
			}
		})
		token, err := f.tokens().Token(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.good(t, token, "bob@example.org")
		if g, err := f.keeper.Grant(t.Context(), "jane"); err != nil || g.Identity.Email != "bob@example.org" {
			t.Errorf("stored is %v, %v", g, err)
		}
	})
}

func TestAuthorization(t *testing.T) {
	server := oauthtest.Start(t)
	f := newFixture(t, server, http.DefaultTransport)
	before, err := f.tokens().Authorization(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.keeper = f.another()
	if again, err := f.tokens().Authorization(t.Context()); again != before || err != nil {
		t.Errorf("it changes without a reason: %q, %q, %v", before, again, err)
	}
	f.consent(t, "jane")
	if again, _ := f.tokens().Authorization(t.Context()); again == before {
		t.Error("another consent is the same authorisation")
	}
	f.consent(t, "bob")
	bob, _ := f.keeper.Tokens(f.provider, "bob", "").Authorization(t.Context())
	if jane, _ := f.tokens().Authorization(t.Context()); jane == bob {
		t.Error("two accounts have the same authorisation")
	}
	token, err := f.tokens().Token(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if revoked, err := f.keeper.Revoke(t.Context(), f.provider, "jane"); err != nil || !revoked {
		t.Errorf("Revoke: %v, %v", revoked, err)
	}
	f.good(t, token, "")
	for range 2 {
		_, err := f.tokens().Authorization(t.Context())
		wantRefusal(t, err, gateway.CodeAuth, "authorise it", `run "pop3gw oauth login jane"`)
	}
	if _, err := f.keeper.Revoke(t.Context(), f.provider, "jane"); !errors.Is(err, oauth.ErrNoGrant) {
		t.Errorf("a second Revoke: %v", err)
	}
	if names, _ := f.keeper.Names(t.Context()); fmt.Sprint(names) != "[bob]" {
		t.Errorf("left are %v", names)
	}
}

// A provider that cannot be reached leaves the grant where it is.
func TestRevokeFails(t *testing.T) {
	server := oauthtest.New()
	f := newFixture(t, server, server.Transport())
	server.Change(func(s *oauthtest.Server) {
		s.Fail = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	})
	if _, err := f.keeper.Revoke(t.Context(), f.provider, "jane"); err == nil {
		t.Error("no error")
	}
	if _, err := f.keeper.Grant(t.Context(), "jane"); err != nil {
		t.Error(err)
	}
	if err := f.keeper.Remove(t.Context(), "jane"); err != nil {
		t.Error(err)
	}
	if err := f.keeper.Remove(t.Context(), "jane"); !errors.Is(err, oauth.ErrNoGrant) {
		t.Errorf("a second Remove: %v", err)
	}
}

// Another client, or another provider, needs another consent.
func TestOtherClient(t *testing.T) {
	server := oauthtest.New()
	f := newFixture(t, server, server.Transport())
	for name, change := range map[string]func(*oauth.Options){
		"idp":   func(o *oauth.Options) { o.ClientID = "another" },
		"other": func(*oauth.Options) {},
	} {
		o := server.Options()
		change(&o)
		p, err := oauth.NewWithTransport(name, o, server.Transport())
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.keeper.Tokens(p, "jane", "").Token(t.Context(), "")
		wantRefusal(t, err, gateway.CodeAuth, "authorise again", "pop3gw oauth login jane", "authorised")
	}
}

func TestKeyFile(t *testing.T) {
	server := oauthtest.New()
	f := newFixture(t, server, server.Transport())
	info, err := os.Stat(f.keyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key file is %v, %v", info, err)
	}
	stored, _, _ := f.store.Load(t.Context(), "jane")
	for _, secret := range append(server.Secrets(), "jane@example.org") {
		if bytes.Contains(stored, []byte(secret)) {
			t.Errorf("%s is stored in clear text", secret)
		}
	}
	text, err := os.ReadFile(f.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	// What is stored for one account does not open as another's.
	f.store.Save(t.Context(), "eve", stored, 0)
	if _, err := f.another().Grant(t.Context(), "eve"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a grant that was moved: %v", err)
	}
	f.store.Remove(t.Context(), "eve")

	try := func() error {
		_, err := f.another().Tokens(f.provider, "jane", "jane@example.org").Token(t.Context(), "")
		return err
	}
	os.Remove(f.keyFile)
	wantRefusal(t, try(), gateway.CodeSysPerm, "tell the administrator", f.keyFile+" is missing", "put it back", "pop3gw oauth login jane")
	if _, err := os.Stat(f.keyFile); err == nil {
		t.Error("a new key was made where there are authorisations of another one")
	}
	if _, err := oauth.MakeKey(f.keyFile); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, try(), gateway.CodeSysPerm, "tell the administrator", "stored with another key than that in "+f.keyFile, "pop3gw oauth login jane")
	for content, want := range map[string]string{"": "holds no key", "pop3gw-key-1 c2hvcnQ=\n": "holds no key", "hello": "holds no key"} {
		os.WriteFile(f.keyFile, []byte(content), 0o600)
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("key file %q: %v", content, err)
		}
	}
	os.WriteFile(f.keyFile, text, 0o600)
	os.Chmod(f.keyFile, 0o666)
	if err := try(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key file that all may write: %v", err)
	}
	os.Chmod(f.keyFile, 0o600)
	if err := try(); err != nil {
		t.Errorf("the right key again: %v", err)
	}
}

// Many processes that start together have one key.
func TestMakeKeyTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	sealed := make(chan []byte, 20)
	var together sync.WaitGroup
	for range cap(sealed) {
		together.Go(func() {
			key, err := oauth.MakeKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			sealed <- key.Seal("x", []byte("text"))
		})
	}
	together.Wait()
	close(sealed)
	key, err := oauth.ReadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	for s := range sealed {
		if plain, err := key.Open("x", s); err != nil || string(plain) != "text" {
			t.Errorf("%q, %v", plain, err)
		}
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("left are %q", left)
	}
}

func FuzzOpen(f *testing.F) {
	key, err := oauth.MakeKey(filepath.Join(f.TempDir(), "key"))
	if err != nil {
		f.Fatal(err)
	}
	good := key.Seal("n", []byte("x"))
	f.Add(good)
	f.Add([]byte{})
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := key.Open("n", sealed); err == nil && !bytes.Equal(sealed, good) {
			t.Errorf("forged: %q", plain)
		}
	})
}
