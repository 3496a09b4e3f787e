//go:build real

package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	devlog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"pop3gw/gateway/oauth/oauthtest"
)

// screen is a size of a window, in CSS pixels.
type screen struct {
	name          string
	width, height int64
	scale         float64
	phone         bool
}

var screens = []screen{
	{"phone", 360, 740, 3, true},
	{"desk", 1280, 900, 1, false},
}

// A user makes a password in a real browser without JavaScript, and reads mail with
// it that Dovecot gives for a token alone.
func TestEnrolment(t *testing.T) {
	provider := oauthtest.Start(t)
	provider.Bounce = true
	d := startTokenDovecot(t, provider)
	port := freePort(t)
	page := fmt.Sprintf("https://localhost:%d", port)
	o := provider.Options()
	g := startGateway(t, d, fmt.Sprintf(`
[enrol]
address = %q
public_url = %q
domains = ["example.org", "example.net"]
[[enrol.providers]]
oauth = "idp"
adapter = "office"
title = "Example Mail"
[[enrol.providers]]
oauth = "second"
adapter = "office"
title = "Another Provider"
%s%s`, loopback(port), page, oauthTable("idp", o.ClientID, provider), oauthTable("second", o.ClientID, provider)))

	for _, s := range screens {
		t.Run(s.name, func(t *testing.T) {
			user := "jane.doe-" + s.name + "@example.org"
			provider.Change(func(p *oauthtest.Server) { p.User, p.Refuse = user, false })
			message := []byte("Subject: for " + s.name + "\r\n\r\ntext\r\n")
			d.deliver(t, user, message)
			b := startBrowser(t, s)

			b.run(chromedp.Navigate(page), see("form"))
			b.look("1-choose", "Continue with Example Mail", "Continue with Another Provider", "@example.org")
			b.run(click(`button[value="idp"]`), see(`form[action="/password"]`))
			b.look("2-account", user, "Make a password")
			password := b.password("3-password")
			b.look("3-password", "pop.example.org", fmt.Sprint(g.tlsPort)+" with SSL/TLS", fmt.Sprint(g.port)+" with STARTTLS", user)

			c := logInWith(t, g, user, password)
			if got := c.retrieve(t, 1); string(canonical(got)) != string(canonical(message)) {
				t.Errorf("the mail is %q", got)
			}
			c.must(t, "QUIT")

			// Reloading shows it no more.
			b.run(chromedp.Navigate(page+"/account"), see(".button"))
			b.look("4-expired", "took too long")

			// Once more: the new password replaces the old one.
			b.run(click(".button"), see("form"), click(`button[value="idp"]`), see(".warning"))
			b.look("5-again", "A new one replaces it")
			second := b.password("6-replaced")
			if _, err := tryPassword(t, g, user, password); err == nil {
				t.Error("the old password is still good")
			}
			logInWith(t, g, user, second).must(t, "QUIT")

			provider.Change(func(p *oauthtest.Server) { p.Refuse = true })
			b.run(chromedp.Navigate(page), see("form"), click(`button[value="idp"]`), see(".button"))
			b.look("7-refused", "You did not agree")
			provider.Change(func(p *oauthtest.Server) { p.Refuse, p.User = false, "mallory@elsewhere.example" })
			b.run(chromedp.Navigate(page), see("form"), click(`button[value="idp"]`), see(".button"))
			b.look("8-domain", "mallory@elsewhere.example", "none of the domains")

			for _, secret := range append(provider.Secrets(), password, second) {
				if strings.Contains(g.log.String(), secret) {
					t.Errorf("the log holds the secret %.10s...", secret)
				}
			}

			out, err := g.command(t, "enrol", "list").CombinedOutput()
			if err != nil || !strings.Contains(string(out), user) {
				t.Errorf("enrol list: %v\n%s", err, out)
			}
			if out, err := g.command(t, "enrol", "remove", user).CombinedOutput(); err != nil || !strings.Contains(string(out), "revoked") {
				t.Errorf("enrol remove: %v\n%s", err, out)
			}
			if _, err := tryPassword(t, g, user, second); err == nil {
				t.Error("the removed account can log in")
			}
		})
	}
	if out, err := g.command(t, "enrol", "list").CombinedOutput(); err != nil || string(out) != "nobody has enrolled\n" {
		t.Errorf("enrol list at the end: %v\n%s", err, out)
	}
}

func oauthTable(name, client string, provider *oauthtest.Server) string {
	o := provider.Options()
	return fmt.Sprintf(`
[oauth.%s]
client_id = %q
client_secret = %q
scopes = [%q, "offline_access", "openid", "email"]
auth_url = %q
token_url = %q
revoke_url = %q
issuer = %q
keys_url = %q
`, name, client, o.ClientSecret, oauthtest.MailScope, o.AuthURL, o.TokenURL, o.RevokeURL, o.Issuer, o.KeysURL)
}

// tryPassword logs in with a password of the user's own.
func tryPassword(t testing.TB, g *gateway, user, password string) (*pop3, error) {
	t.Helper()
	c, err := dialPOP3(g.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	if _, err := c.command("USER %s", user); err != nil {
		return nil, err
	}
	_, err = c.command("PASS %s", password)
	return c, err
}

func logInWith(t testing.TB, g *gateway, user, password string) *pop3 {
	t.Helper()
	c, err := tryPassword(t, g, user, password)
	if err != nil {
		t.Fatalf("login of %s: %v", user, err)
	}
	return c
}

func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}
func see(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

// browser is Chromium with one window, in which pages run no scripts.
type browser struct {
	t      *testing.T
	ctx    context.Context
	screen screen

	mu         sync.Mutex
	complaints []string // of the browser about the page
}

func startBrowser(t *testing.T, s screen, further ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	options := append(append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoSandbox,
		chromedp.UserDataDir(folder(t)), chromedp.WindowSize(int(s.width), int(s.height)),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-dev-shm-usage", true)), further...)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx, screen: s}
	b.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err1 := cdp.Call(ctx, target, devlog.Enable, cdp.Empty{})
		_, err2 := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		_, err3 := cdp.Call(ctx, target, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: s.width, Height: s.height, DeviceScaleFactor: s.scale, Mobile: s.phone})
		return errors.Join(err1, err2, err3)
	}))
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	return b
}

// listen notes what the browser finds wrong with a page.
func (b *browser) listen(event any) {
	e, ok := event.(*devlog.EventEntryAdded)
	if !ok || e.Entry.Level != devlog.EntryLevelError || e.Entry.Source == devlog.EntrySourceNetwork { // our own answers 4xx
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, e.Entry.Text)
}

// browserPatience bounds each thing that a browser is to do.
const browserPatience = 20 * time.Second

func (b *browser) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	for i, step := range steps {
		runIn(b, fmt.Sprint("step ", i), step)
	}
}

// runIn has a browser do something, and returns what comes of it.
func runIn[T any](b *browser, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() { // the first one starts the browser, whose life is that of its context
		value, err := chromedp.Run(b.ctx, action)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			b.t.Fatalf("the browser, %s: %v", what, r.err)
		}
		return r.value
	case <-time.After(browserPatience):
		b.t.Fatalf("the browser, %s: nothing in %v", what, browserPatience)
	}
	panic("unreachable")
}

// look is fits, with a picture: POP3GW_SCREENSHOTS names a folder for it.
func (b *browser) look(name string, texts ...string) {
	b.t.Helper()
	b.fits(name, texts...)
	if dir := os.Getenv("POP3GW_SCREENSHOTS"); dir != "" {
		picture := runIn(b, name, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(dir, b.screen.name+"-"+name+".png"), picture, 0o644); err != nil {
			b.t.Error(err)
		}
	}
}

// fits checks that a page holds texts, fits into the window, and is as the browser
// likes it.
func (b *browser) fits(name string, texts ...string) {
	b.t.Helper()
	shown := runIn(b, name, chromedp.Text(chromedp.CSS("body")))
	width := runIn(b, name, chromedp.Evaluate[int64]("document.documentElement.scrollWidth"))
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			b.t.Errorf("%s: no %q on the page:\n%s", name, text, shown)
		}
	}
	if width > b.screen.width {
		b.t.Errorf("%s: the page is %d wide, the window %d", name, width, b.screen.width)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		b.t.Errorf("%s: the browser complains: %q", name, b.complaints)
		b.complaints = nil
	}
}

// password makes one, and returns it from the page.
func (b *browser) password(name string) (password string) {
	b.t.Helper()
	b.run(click(`form[action="/password"] button`), see(".password"))
	password = runIn(b, name, chromedp.Text(chromedp.CSS(".password")))
	if len(password) != 23 {
		b.t.Fatalf("%s: the password is %q", name, password)
	}
	return password
}
