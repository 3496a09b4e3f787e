package maildroptest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"pop3gw/gateway"
)

//go:embed testdata/session/*.txt testdata/policy/*.txt
var scriptFiles embed.FS

// Script is a session as text: a txtar archive of a comment, the messages of a
// maildrop, a dialogue, and the messages left afterwards.
//
// Lines "option: ..." in the comment set the listener: mechanisms=A,B,
// cleartext=never, tls=stls, tls=implicit, nul, eoh; "exact" asks for a store
// that keeps any octets, "errors=N" is Limits.MaxErrors, "lock=X" is LockPolicy.WhenBusy.
//
// A file "message NAME" is a message with LF line ends sent as CRLF; "message
// NAME quoted" is Go strings, one a line, joined. "after" lists the names of the
// messages left, in order; "trash" of those in the trash, "seen" of those left that
// are marked as read, "in FOLDER" of those in another folder. "log" is what the log says of messages, each with its number.
//
// The dialogue of user alice, whose password is "open sesame" and whose token is
// "ya29.open-sesame":
//
//	C: text    the client sends a line; lines in a row leave in one write
//	C! "text"  the client sends octets, a Go string
//	S: text    the server sends this line; {uid NAME} and {size NAME} are filled in
//	S! "text"  the same as a Go string, without CRLF
//	S~ regexp  the server sends a line that this matches whole
//	connect X  another connection, called X; the first is opened already
//	use X      go on with connection X
//	starttls   the client begins TLS
//	drop       the client closes without a word
//	eof        the server has closed
//	wait 10m   time passes
//	remove NAME, add NAME   another program removes or stores a message
//	add NAME 48h            it stores one that is so old
//	add NAME to FOLDER      it stores one in another folder
//	read NAME               it marks a message as read
//
// {apop NAME} in a line of the client's is the digest for the connection's
// greeting and the password; {base64 "text"}, anywhere, is that Go string in base64.
type Script struct {
	Name    string
	options []string
	archive *txtar.Archive
}

// Scripts returns the scripts of this package that hold for every adapter.
func Scripts(t testing.TB) []Script { return scripts(t, "testdata/session/") }

func scripts(t testing.TB, folder string) []Script {
	files, err := scriptFiles.ReadDir(path.Clean(folder))
	if err != nil {
		t.Fatal(err)
	}
	var scripts []Script
	for _, file := range files {
		text, err := scriptFiles.ReadFile(folder + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		s := Script{Name: strings.TrimSuffix(path.Base(file.Name()), ".txt"), archive: txtar.Parse(text)}
		for line := range strings.SplitSeq(string(s.archive.Comment), "\n") {
			if rest, ok := strings.CutPrefix(line, "option:"); ok {
				s.options = append(s.options, strings.Fields(rest)...)
			}
		}
		scripts = append(scripts, s)
	}
	return scripts
}

// Exact reports whether the script needs a store that keeps any octets.
func (s Script) Exact() bool { return slices.Contains(s.options, "exact") }

// Waits reports whether the script needs a clock that can be moved: a synctest
// bubble, with a store in memory.
func (s Script) Waits() bool { return bytes.Contains(s.file("dialogue"), []byte("\nwait ")) }

func (s Script) file(name string) []byte {
	for _, f := range s.archive.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func (s Script) has(name string) bool {
	return slices.ContainsFunc(s.archive.Files, func(f txtar.File) bool { return f.Name == name })
}

// TestScripts runs the scripts that fit over new fixtures, without a bubble.
func TestScripts(t *testing.T, newFixture func(t *testing.T) Fixture) {
	exact := newFixture(t).Exact
	for _, s := range Scripts(t) {
		if s.Waits() || s.Exact() && !exact {
			continue
		}
		t.Run(s.Name, func(t *testing.T) { s.Run(t, newFixture(t)) })
	}
}

// TestPolicies runs the scripts of policies over new fixtures.
func TestPolicies(t *testing.T, newFixture func(t *testing.T) Fixture) {
	for _, s := range scripts(t, "testdata/policy/") {
		t.Run(s.Name, func(t *testing.T) { s.Run(t, newFixture(t)) })
	}
}

const (
	scriptUser     = "alice"
	scriptPassword = "open sesame"
	scriptToken    = "ya29.open-sesame"
	// scriptPatience bounds each wait for the server, in real time.
	scriptPatience = 20 * time.Second
)

// scriptAccounts knows one user.
type scriptAccounts struct{ account gateway.Account }

func (a scriptAccounts) Login(_ context.Context, c gateway.Credentials) (gateway.Account, error) {
	good := c.Password == scriptPassword || c.Token == scriptToken
	if c.Digest != "" {
		sum := md5.Sum([]byte(c.Timestamp + scriptPassword))
		good = c.Digest == hex.EncodeToString(sum[:])
	}
	if c.User != scriptUser || c.Identity != "" || !good {
		return gateway.Account{}, gateway.Refused(nil)
	}
	return a.account, nil
}

// run is one run of a script.
type run struct {
	t       *testing.T
	fixture Fixture
	account gateway.Account
	names   []string // of the messages, in the order stored
	raw     map[string][]byte
	uids    map[string]string
	sizes   map[string]int64

	listener *Listener
	log      *sessionLog
	conns    map[string]*scriptConn
	conn     *scriptConn
}

type scriptConn struct {
	net.Conn
	in       *bufio.Reader
	greeting string
}

// Run runs the script over f.
func (s Script) Run(t *testing.T, f Fixture) {
	r := &run{t: t, fixture: f, raw: make(map[string][]byte), uids: make(map[string]string), sizes: make(map[string]int64),
		listener: NewListener(), log: &sessionLog{ended: make(chan struct{}, 100)}, conns: make(map[string]*scriptConn)}
	var messages [][]byte
	for _, file := range s.archive.Files {
		fields := strings.Fields(file.Name)
		if fields[0] != "message" && fields[0] != "later" {
			continue
		}
		raw := bytes.ReplaceAll(file.Data, []byte("\n"), []byte("\r\n"))
		if fields[len(fields)-1] == "quoted" {
			raw = nil
			for line := range strings.Lines(string(file.Data)) {
				raw = append(raw, r.unquote(strings.TrimSpace(line))...)
			}
		}
		r.raw[fields[1]] = raw
		if fields[0] == "message" {
			r.names = append(r.names, fields[1])
			messages = append(messages, raw)
		}
	}
	r.account = f.Create(t, messages)
	r.readUIDs()
	r.account.Policy = s.policy(t)

	limits := gateway.Limits{LoginFailureDelay: time.Nanosecond}
	options := r.listenerOptions(s.options, &limits)
	server := &gateway.Server{Hostname: "pop.example.org", Accounts: scriptAccounts{r.account}, Log: slog.New(r.log), Limits: limits}
	served := make(chan error, 1)
	go func() { served <- server.Serve(r.listener, options) }()
	defer func() {
		for _, c := range r.conns {
			c.Close()
		}
		server.Shutdown(context.Background())
		if err := <-served; err != gateway.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
		if s.has("after") {
			r.check("left", f.List, s.file("after"))
		}
		if s.has("trash") {
			r.check("in the trash", f.Trash, s.file("trash"))
		}
		if s.has("seen") {
			r.check("marked as read", f.Seen, s.file("seen"))
		}
		for _, file := range s.archive.Files {
			if folder, ok := strings.CutPrefix(file.Name, "in "); ok {
				r.check(file.Name, func(t testing.TB, a gateway.Account) [][]byte { return f.In(t, a, folder) }, file.Data)
			}
		}
		if s.has("log") {
			if got, want := r.log.said(), strings.TrimSpace(string(s.file("log"))); got != want {
				t.Errorf("the log says:\n%s\nwant:\n%s", got, want)
			}
		}
	}()
	r.connect("1")
	r.dialogue(strings.Split(string(s.file("dialogue")), "\n"))
}

// policyKeys are the options that are of the policy.
var policyKeys = []string{"on_delete", "trash_mailbox", "on_retrieve", "mailboxes", "max_age", "max_messages", "unseen_only"}

func (s Script) policy(t testing.TB) (p gateway.Policy) {
	w := new(gateway.Window)
	for _, option := range s.options {
		key, value, _ := strings.Cut(option, "=")
		var err error
		switch key {
		case "on_delete":
			err = p.OnDelete.UnmarshalText([]byte(value))
		case "trash_mailbox":
			p.TrashMailbox = value
		case "on_retrieve":
			err = p.OnRetrieve.UnmarshalText([]byte(value))
		case "mailboxes":
			names := gateway.Mailboxes(strings.Split(value, ","))
			p.Mailboxes = &names
		case "max_age":
			err = w.MaxAge.UnmarshalText([]byte(value))
		case "max_messages":
			w.MaxMessages, err = strconv.Atoi(value)
		case "unseen_only":
			w.UnseenOnly = true
		}
		if err != nil {
			t.Fatalf("option %q: %v", option, err)
		}
	}
	p.Window = w
	return p
}

func (r *run) listenerOptions(options []string, limits *gateway.Limits) gateway.ListenerOptions {
	o := gateway.ListenerOptions{CleartextLogin: gateway.CleartextAlways}
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		if slices.Contains(policyKeys, key) {
			continue
		}
		switch key {
		case "exact":
		case "nul":
			o.ReplaceNUL = true
		case "eoh":
			o.EndHeader = true
		case "mechanisms":
			o.Mechanisms = strings.Split(value, ",")
		case "cleartext":
			if value != "never" {
				r.t.Fatalf("cleartext=%s is not known", value)
			}
			o.CleartextLogin = gateway.CleartextNever
		case "tls":
			o.TLS = &tls.Config{Certificates: []tls.Certificate{Certificate(r.t)}}
			o.Implicit = value == "implicit"
		case "lock":
			policy := gateway.LockPolicy{}
			if err := policy.WhenBusy.UnmarshalText([]byte(value)); err != nil {
				r.t.Fatalf("option %q: %v", option, err)
			}
			r.fixture.Locks.SetPolicy(policy)
		case "errors":
			limits.MaxErrors, _ = strconv.Atoi(value)
		default:
			r.t.Fatalf("option %q is not known", option)
		}
	}
	return o
}

// readUIDs learns how the adapter names and measures the messages.
func (r *run) readUIDs() {
	d, err := r.fixture.Adapter.Open(context.Background(), r.account)
	if err != nil {
		r.t.Fatal(err)
	}
	defer d.Close()
	if d.Len() != len(r.names) {
		r.t.Fatalf("the adapter lists %d messages, %d were stored", d.Len(), len(r.names))
	}
	for i, name := range r.names {
		r.uids[name], r.sizes[name] = string(d.AppendUID(nil, i)), d.Size(i)
	}
}

func (r *run) connect(name string) {
	nc, err := r.listener.Dial()
	if err != nil {
		r.t.Fatal(err)
	}
	r.conn = &scriptConn{Conn: nc, in: bufio.NewReader(nc)}
	r.conns[name] = r.conn
}

func (r *run) dialogue(lines []string) {
	var batch []byte
	for n, line := range lines {
		fail := func(format string, args ...any) {
			r.t.Helper()
			r.t.Fatalf("dialogue line %d, %q: %s", n+1, line, fmt.Sprintf(format, args...))
		}
		if strings.HasPrefix(line, "C: ") || line == "C:" {
			batch = append(batch, r.fill(strings.TrimPrefix(line[2:], " "))+"\r\n"...)
			continue
		}
		if text, ok := strings.CutPrefix(line, "C! "); ok {
			batch = append(batch, r.unquote(text)...)
			continue
		}
		if len(batch) > 0 {
			r.conn.SetWriteDeadline(time.Now().Add(scriptPatience))
			if _, err := r.conn.Write(batch); err != nil {
				fail("sending what comes before: %v", err)
			}
			batch = nil
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#":
		case "S:":
			if got, want := r.readLine(fail), r.fill(rest); got != want {
				fail("got  %q\nwant %q", got, want)
			}
		case "S!":
			if got, want := r.readLine(fail), string(r.unquote(rest)); got != want {
				fail("got  %q\nwant %q", got, want)
			}
		case "S~":
			if got := r.readLine(fail); !regexp.MustCompile(`^(?:` + rest + `)$`).MatchString(got) {
				fail("got  %q", got)
			}
		case "connect":
			r.connect(rest)
		case "use":
			r.conn = r.conns[rest]
		case "starttls":
			tc := tls.Client(r.conn.Conn, &tls.Config{InsecureSkipVerify: true})
			if err := tc.Handshake(); err != nil {
				fail("%v", err)
			}
			r.conn.Conn, r.conn.in = tc, bufio.NewReader(tc)
		case "drop":
			r.conn.Close()
			r.awaitEnd(fail)
		case "eof":
			r.conn.SetReadDeadline(time.Now().Add(scriptPatience))
			if got, err := r.conn.in.ReadString('\n'); err != io.EOF {
				fail("got %q, %v", got, err)
			}
			r.awaitEnd(fail)
		case "wait":
			d, err := time.ParseDuration(rest)
			if err != nil {
				fail("%v", err)
			}
			time.Sleep(d)
		case "remove":
			r.fixture.Remove(r.t, r.account, slices.Index(r.names, rest))
		case "add":
			if name, folder, ok := strings.Cut(rest, " to "); ok {
				r.fixture.AddTo(r.t, r.account, folder, r.raw[name])
				continue
			}
			name, age, aged := strings.Cut(rest, " ")
			if d, err := time.ParseDuration(age); aged {
				if err != nil {
					fail("%v", err)
				}
				r.fixture.AddAged(r.t, r.account, r.raw[name], d)
			} else {
				r.fixture.Add(r.t, r.account, r.raw[name])
			}
			r.names = append(r.names, name)
		case "read":
			r.fixture.Read(r.t, r.account, slices.Index(r.names, rest))
		default:
			fail("not a line of a dialogue")
		}
	}
	if len(batch) > 0 {
		r.t.Fatal("the dialogue ends with a line of the client's")
	}
}

func (r *run) readLine(fail func(string, ...any)) string {
	r.conn.SetReadDeadline(time.Now().Add(scriptPatience))
	line, err := r.conn.in.ReadString('\n')
	if err != nil {
		fail("got %q, %v", line, err)
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		fail("got %q, which does not end in CRLF", line)
	}
	if r.conn.greeting == "" {
		r.conn.greeting = text
	}
	return text
}

// awaitEnd waits until the server is done with a session.
func (r *run) awaitEnd(fail func(string, ...any)) {
	select {
	case <-r.log.ended:
	case <-time.After(scriptPatience):
		fail("the server did not end the session")
	}
}

var (
	placeholder = regexp.MustCompile(`\{(uid|size|apop) (\w+)\}`)
	encoded     = regexp.MustCompile(`\{base64 ("(?:[^"\\]|\\.)*")\}`)
)

func (r *run) fill(text string) string {
	text = encoded.ReplaceAllStringFunc(text, func(p string) string {
		return base64.StdEncoding.EncodeToString(r.unquote(encoded.FindStringSubmatch(p)[1]))
	})
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		m := placeholder.FindStringSubmatch(p)
		switch m[1] {
		case "uid":
			return r.uids[m[2]]
		case "size":
			return strconv.FormatInt(r.sizes[m[2]], 10)
		}
		sum := md5.Sum([]byte(r.conn.greeting[strings.IndexByte(r.conn.greeting, '<'):] + scriptPassword))
		return m[2] + " " + hex.EncodeToString(sum[:])
	})
}

func (r *run) unquote(text string) []byte {
	s, err := strconv.Unquote(text)
	if err != nil {
		r.t.Fatalf("%s is not a Go string", text)
	}
	return []byte(s)
}

// check compares the messages that list returns with those of these names.
func (r *run) check(where string, list func(testing.TB, gateway.Account) [][]byte, names []byte) {
	var got, want []string
	for _, raw := range list(r.t, r.account) {
		got = append(got, string(raw))
	}
	for _, name := range strings.Fields(string(names)) {
		if name != "none" {
			want = append(want, string(r.raw[name]))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Errorf("messages %s:\n%q\nwant:\n%q", where, got, want)
	}
}

// sessionLog is a log that tells when sessions have ended, and what was said of
// messages.
type sessionLog struct {
	ended chan struct{}

	mu       sync.Mutex
	messages []string
}

func (l *sessionLog) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.messages, "\n")
}

func (l *sessionLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *sessionLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *sessionLog) WithGroup(string) slog.Handler            { return l }

func (l *sessionLog) Handle(_ context.Context, record slog.Record) error {
	if record.Message == "session ended" {
		l.ended <- struct{}{}
	}
	if record.Level == slog.LevelInfo && strings.HasPrefix(record.Message, "message ") {
		record.Attrs(func(a slog.Attr) bool {
			if a.Key != "number" {
				return true
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.messages = append(l.messages, record.Message+" "+a.Value.String())
			return false
		})
	}
	return nil
}
