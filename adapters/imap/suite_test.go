package imap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

func TestAdapter(t *testing.T) {
	rev1 := func(caps ...imap.Cap) imap.CapSet {
		set := imap.CapSet{imap.CapIMAP4rev1: {}}
		for _, c := range caps {
			set[c] = struct{}{}
		}
		return set
	}
	for _, tt := range []struct {
		name    string
		caps    imap.CapSet
		options Options
	}{
		{"IMAP4rev2", imap.CapSet{imap.CapIMAP4rev2: {}}, Options{}},
		{"UIDPLUS", rev1(imap.CapUIDPlus), Options{}},
		{"ESEARCH", rev1(imap.CapUIDPlus, imap.CapESearch), Options{Policy: gateway.Policy{OnRetrieve: gateway.SeenOnRetrieve}}},
		{"MOVE", rev1(imap.CapMove), Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "Trash"}}},
		{"COPY", rev1(imap.CapUIDPlus), Options{Policy: gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "Trash"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			maildroptest.TestAdapter(t, func(t *testing.T) maildroptest.Fixture {
				m := newMemServer(t, tt.caps)
				return m.fixture(t, tt.options)
			})
		})
	}
}

// TestSession runs the session scripts of all adapters.
func TestSession(t *testing.T) {
	maildroptest.TestScripts(t, func(t *testing.T) maildroptest.Fixture {
		return newMemServer(t, imap.CapSet{imap.CapIMAP4rev2: {}}).fixture(t, Options{})
	})
}

// TestPolicies runs the scripts and the properties of policies.
func TestPolicies(t *testing.T) {
	for _, caps := range []imap.CapSet{
		{imap.CapIMAP4rev2: {}},
		{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}},
		{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}, imap.CapESearch: {}, imap.CapMove: {}},
	} {
		newFixture := func(t *testing.T) maildroptest.Fixture { return newMemServer(t, caps).fixture(t, Options{}) }
		maildroptest.TestPolicies(t, newFixture)
		maildroptest.TestMarkedAlone(t, newFixture)
	}
}

// memServer is the in-memory server of go-imap, made exact: it would give out
// messages as it parses them.
type memServer struct {
	*maildroptest.Listener

	mu    sync.Mutex
	users map[string]*memUser
}

type memUser struct {
	*imapmemserver.User

	mu   sync.Mutex
	next imap.UID
	raw  map[imap.UID][]byte
	more map[string][][]byte // in other mailboxes, from UID 1 on
}

func newMemServer(t *testing.T, caps imap.CapSet) *memServer {
	m := &memServer{
		Listener: maildroptest.NewListener(),
		users:    make(map[string]*memUser),
	}
	server := imapserver.New(&imapserver.Options{
		Caps:         caps,
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &memSession{server: m}, nil, nil
		},
	})
	done := make(chan error)
	go func() { done <- server.Serve(m.Listener) }()
	t.Cleanup(func() {
		m.Listener.Close() // first: Server.Close must not meet a Serve that only begins
		<-done
		server.Close()
	})
	return m
}

func (m *memServer) fixture(t *testing.T, options Options) maildroptest.Fixture {
	options.Address, options.TLS = "127.0.0.1:143", NoTLS
	locks := new(gateway.Locks)
	adapter, err := New(options, locks, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { adapter.Close() })
	adapter.link.Dial = func(context.Context, string, string) (net.Conn, error) { return m.Dial() }
	return maildroptest.Fixture{
		Adapter: adapter,
		Locks:   locks,
		Create: func(t testing.TB, messages [][]byte) gateway.Account {
			name, u := m.newUser(t)
			for _, message := range messages {
				u.add(t, message, 0)
			}
			return gateway.Account{
				Name: name, Adapter: adapter, Forwarded: true,
				Upstream: gateway.Credentials{User: name, Password: "secret"},
			}
		},
		Add: func(t testing.TB, account gateway.Account, message []byte) {
			m.user(account.Name).add(t, message, 0)
		},
		AddAged: func(t testing.TB, account gateway.Account, message []byte, age time.Duration) {
			m.user(account.Name).add(t, message, age)
		},
		AddTo: func(t testing.TB, account gateway.Account, folder string, message []byte) {
			m.user(account.Name).addTo(t, folder, message)
		},
		In: func(t testing.TB, account gateway.Account, folder string) [][]byte {
			return m.user(account.Name).in(t, folder)
		},
		Read: func(t testing.TB, account gateway.Account, i int) {
			m.user(account.Name).flag(t, imap.UID(i+1), imap.FlagSeen)
		},
		Remove: func(t testing.TB, account gateway.Account, i int) {
			m.user(account.Name).remove(t, imap.UID(i+1))
		},
		List: func(t testing.TB, account gateway.Account) [][]byte {
			return m.user(account.Name).list(t, &imap.SearchCriteria{})
		},
		Seen: func(t testing.TB, account gateway.Account) [][]byte {
			return m.user(account.Name).list(t, &imap.SearchCriteria{Flag: []imap.Flag{imap.FlagSeen}})
		},
		Trash: func(t testing.TB, account gateway.Account) [][]byte { return m.user(account.Name).trash(t) },
	}
}

func (m *memServer) newUser(t testing.TB) (name string, u *memUser) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = fmt.Sprintf("user%d", len(m.users))
	u = &memUser{User: imapmemserver.NewUser(name, "secret"), next: 1, raw: make(map[imap.UID][]byte), more: make(map[string][][]byte)}
	for _, mailbox := range []string{"INBOX", "Trash"} {
		if err := u.Create(mailbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	m.users[name] = u
	return name, u
}

func (m *memServer) user(name string) *memUser {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.users[name]
}

// session returns a session of its own, with the INBOX open.
func (u *memUser) session(t testing.TB) *imapmemserver.UserSession {
	s := imapmemserver.NewUserSession(u.User)
	if _, err := s.Select("INBOX", &imap.SelectOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (u *memUser) add(t testing.TB, message []byte, age time.Duration) {
	// The UID is known before anybody can see the message.
	u.mu.Lock()
	u.raw[u.next] = message
	u.next++
	u.mu.Unlock()
	if _, err := u.Append("INBOX", bytes.NewReader(message), &imap.AppendOptions{Time: time.Now().Add(-age)}); err != nil {
		t.Fatal(err)
	}
}

func (u *memUser) message(uid imap.UID) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.raw[uid]
}

// addTo is add in another mailbox.
func (u *memUser) addTo(t testing.TB, mailbox string, message []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.more[mailbox] == nil {
		u.Create(mailbox, nil) // it may be there
	}
	u.more[mailbox] = append(u.more[mailbox], message)
	if _, err := u.Append(mailbox, bytes.NewReader(message), &imap.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (u *memUser) messageIn(mailbox string, uid imap.UID) []byte {
	if mailbox == "INBOX" {
		return u.message(uid)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.more[mailbox][uid-1]
}

func (u *memUser) in(t testing.TB, mailbox string) (messages [][]byte) {
	s := imapmemserver.NewUserSession(u.User)
	defer s.Close()
	if _, err := s.Select(mailbox, &imap.SelectOptions{}); err != nil {
		t.Fatal(err)
	}
	data, err := s.Search(imapserver.NumKindUID, &imap.SearchCriteria{}, &imap.SearchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range data.AllUIDs() {
		messages = append(messages, u.messageIn(mailbox, uid))
	}
	return messages
}

func (u *memUser) flag(t testing.TB, uid imap.UID, flag imap.Flag) {
	s := u.session(t)
	defer s.Close()
	if err := s.Store(nil, imap.UIDSetNum(uid), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{flag}}, nil); err != nil {
		t.Fatal(err)
	}
}

func (u *memUser) remove(t testing.TB, uid imap.UID) {
	u.flag(t, uid, imap.FlagDeleted)
	s := u.session(t)
	defer s.Close()
	set := imap.UIDSetNum(uid)
	if err := s.Expunge(nil, &set); err != nil {
		t.Fatal(err)
	}
}

func (u *memUser) list(t testing.TB, criteria *imap.SearchCriteria) [][]byte {
	s := u.session(t)
	defer s.Close()
	data, err := s.Search(imapserver.NumKindUID, criteria, &imap.SearchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var messages [][]byte
	for _, uid := range data.AllUIDs() {
		messages = append(messages, u.message(uid))
	}
	return messages
}

// trash returns the messages in the trash, which are known by their subjects.
func (u *memUser) trash(t testing.TB) (messages [][]byte) {
	s := imapmemserver.NewUserSession(u.User)
	defer s.Close()
	if _, err := s.Select("Trash", &imap.SelectOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, raw := range u.raw {
		_, subject, _ := strings.Cut(string(raw), "Subject: ")
		subject, _, _ = strings.Cut(subject, "\r\n")
		data, err := s.Search(imapserver.NumKindUID, &imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: subject}}}, &imap.SearchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for range data.AllUIDs() {
			messages = append(messages, raw)
		}
	}
	return messages
}

// memSession gives out messages as they were stored.
type memSession struct {
	*imapmemserver.UserSession // nil before Login

	server  *memServer
	user    *memUser
	mailbox string
}

func (s *memSession) Select(mailbox string, options *imap.SelectOptions) (*imap.SelectData, error) {
	s.mailbox = mailbox
	return s.UserSession.Select(mailbox, options)
}

func (s *memSession) Login(name, password string) error {
	u := s.server.user(name)
	if u == nil || u.User.Login(name, password) != nil {
		return imapserver.ErrAuthFailed
	}
	s.user, s.UserSession = u, imapmemserver.NewUserSession(u.User)
	return nil
}

func (s *memSession) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	criteria := imap.SearchCriteria{UID: []imap.UIDSet{set.(imap.UIDSet)}}
	data, err := s.Search(imapserver.NumKindUID, &criteria, &imap.SearchOptions{})
	if err != nil {
		return err
	}
	numbers := s.numbers(data)
	for i, uid := range data.AllUIDs() {
		if numbers[i] == 0 {
			continue // not announced yet
		}
		raw := s.user.messageIn(s.mailbox, uid)
		response := w.CreateMessage(numbers[i])
		response.WriteUID(uid)
		if options.RFC822Size {
			response.WriteRFC822Size(int64(len(raw)))
		}
		for _, section := range options.BodySection {
			part := raw
			if p := section.Partial; p != nil {
				from := min(int64(len(raw)), p.Offset)
				part = raw[from:min(int64(len(raw)), from+p.Size)]
			}
			literal := response.WriteBodySection(section, int64(len(part)))
			literal.Write(part)
			literal.Close()
		}
		if err := response.Close(); err != nil {
			return err
		}
	}
	return nil
}

// numbers returns the sequence number of each message found, 0 for one that the
// client does not know of.
func (s *memSession) numbers(data *imap.SearchData) []uint32 {
	uids := data.AllUIDs()
	numbers := make([]uint32, len(uids))
	if len(uids) == 0 {
		return numbers
	}
	bySeq, err := s.Search(imapserver.NumKindSeq, &imap.SearchCriteria{UID: []imap.UIDSet{imap.UIDSetNum(uids...)}}, &imap.SearchOptions{})
	if err != nil {
		return numbers
	}
	// Messages that came since are at the end.
	copy(numbers, bySeq.AllSeqNums())
	return numbers
}
