package enrol

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
)

//go:embed page.html style.css
var files embed.FS

var pages = template.Must(template.ParseFS(files, "page.html"))

// Page is the enrolment page, an http.Handler for a server with TLS.
type Page struct {
	options Options
	origin  string // of Options.URL, without a slash at its end
	host    string
	key     []byte // of the tokens in forms
	log     *slog.Logger
	visits  visits
	limiter *limiter
	mux     *http.ServeMux
	csrf    *http.CrossOriginProtection
}

// New returns the page that o describes. Errors are one for each mistake, joined.
func New(o Options) (*Page, error) {
	origin, err := CheckURL(o.URL)
	if err := errors.Join(err, o.Terms().Check()); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Page{options: o, origin: origin, host: strings.TrimPrefix(origin, "https://"), log: o.Log,
		key: make([]byte, sha256.Size), limiter: newLimiter(), mux: http.NewServeMux(), csrf: http.NewCrossOriginProtection()}
	rand.Read(p.key) // never fails

	p.mux.HandleFunc("GET /{$}", p.choose)
	p.mux.HandleFunc("POST /start", p.start)
	p.mux.HandleFunc("GET /callback", p.callback)
	p.mux.HandleFunc("GET /account", p.account)
	p.mux.HandleFunc("POST /password", p.password)
	p.mux.HandleFunc("GET /style.css", serveStyle)
	p.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.message(w, r, http.StatusNotFound, "There is no such page", "")
	})
	return p, nil
}

// maxForm bounds what a browser may send in a form, in octets.
const maxForm = 4 << 10

const contentPolicy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	switch {
	case !strings.EqualFold(strings.TrimSuffix(r.Host, ":443"), strings.TrimSuffix(p.host, ":443")):
		http.Error(w, "This page is at "+p.origin, http.StatusMisdirectedRequest)
		return
	case r.Method == http.MethodPost && p.csrf.Check(r) != nil:
		p.message(w, r, http.StatusForbidden, "That came from another site", "Start here, and nothing else was done.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	p.mux.ServeHTTP(w, r)
}

func serveStyle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=3600")
	http.ServeFileFS(w, r, files, "style.css")
}

// The cookie of a browser. With this prefix it can come from this host alone, and by
// TLS (RFC 6265bis §4.1.3).
const cookieName = "__Host-pop3gw"

func cookieOf(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil || len(c.Value) > 64 {
		return ""
	}
	return c.Value
}

// setCookie gives the browser a cookie; "" takes it away. It is sent when the
// provider sends the browser back, which SameSite=Strict would prevent.
func setCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: cookieName, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(visitLife.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// token is what the forms of a browser must hold: no other site can know it.
func (p *Page) token(cookie string) string {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(cookie))
	return hex.EncodeToString(mac.Sum(nil))
}

// ours reports whether a form is of this page, for this browser.
func (p *Page) ours(r *http.Request) bool {
	cookie := cookieOf(r)
	return cookie != "" && subtle.ConstantTimeCompare([]byte(r.PostFormValue("token")), []byte(p.token(cookie))) == 1
}

// render answers with a page of the template.
func (p *Page) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		p.log.Error("the enrolment page cannot be made", "page", name, "error", err)
		http.Error(w, "internal error, try again later", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		b.WriteTo(w)
	}
}

// message answers with a page that says what happened, and where to begin again.
func (p *Page) message(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	p.render(w, r, status, "message", map[string]any{"Title": title, "Text": text, "Server": p.options.Terms().Settings.Server})
}
