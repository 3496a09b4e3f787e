// Package maildroptest holds what tests of maildrops share: an adapter in
// memory, an adapter that fails in chosen ways, and the suite that every adapter
// passes.
package maildroptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"pop3gw/gateway"
	"pop3gw/gateway/wire"
)

// Memory is a gateway.Adapter whose maildrops lie in memory. The zero value has
// no maildrop. It is safe for concurrent use.
type Memory struct {
	locks gateway.Locks

	mu        sync.Mutex
	maildrops map[string][]Message
}

// Message is a message of a Memory. It is never changed once it was added.
type Message struct {
	UID string // as the client gets it; the test sees to its form
	Raw []byte // as stored; line ends may be LF or CRLF
}

// NewMemory returns a Fixture of a Memory.
func NewMemory(*testing.T) Fixture {
	m := new(Memory)
	accounts, added := 0, make(map[string]int)
	add := func(_ testing.TB, account gateway.Account, message []byte) {
		m.Add(account.Name, Message{UID: fmt.Sprint("uid-", added[account.Name]), Raw: message})
		added[account.Name]++
	}
	return Fixture{
		Adapter: m,
		Locks:   &m.locks,
		Exact:   true,
		Large:   5000,
		Create: func(t testing.TB, messages [][]byte) gateway.Account {
			accounts++
			account := gateway.Account{Name: fmt.Sprint("user", accounts), Adapter: m}
			m.Add(account.Name)
			for _, message := range messages {
				add(t, account, message)
			}
			return account
		},
		Add: add,
		Remove: func(t testing.TB, account gateway.Account, i int) {
			if !m.Remove(account.Name, fmt.Sprint("uid-", i)) {
				t.Fatalf("there is no message %d", i)
			}
		},
		List: func(_ testing.TB, account gateway.Account) [][]byte {
			var list [][]byte
			for _, message := range m.Messages(account.Name) {
				list = append(list, message.Raw)
			}
			return list
		},
	}
}

// Add appends messages to the maildrop called name, and creates it if need be:
// without messages it is an empty one. The name is an account's login name, with
// "+" and the folder where a folder was asked for.
func (m *Memory) Add(name string, messages ...Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.maildrops == nil {
		m.maildrops = make(map[string][]Message)
	}
	m.maildrops[name] = append(m.maildrops[name], messages...)
}

// Remove takes the message with this UID out of the maildrop called name, as
// another program would during a session. It says whether there was one.
func (m *Memory) Remove(name, uid string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.maildrops[name], func(msg Message) bool { return msg.UID == uid })
	if i < 0 {
		return false
	}
	// A new slice: sessions hold the old one as their snapshot.
	m.maildrops[name] = slices.Concat(m.maildrops[name][:i], m.maildrops[name][i+1:])
	return true
}

// Messages returns the messages now in the maildrop called name, in order.
func (m *Memory) Messages(name string) []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.maildrops[name])
}

// Open implements gateway.Adapter. A maildrop that nobody added is
// gateway.Unusable.
func (m *Memory) Open(ctx context.Context, account gateway.Account) (gateway.Maildrop, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := account.Name
	if account.Folder != "" {
		name += "+" + account.Folder
	}
	unlock, _, err := m.locks.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	d, err := m.list(name)
	if err != nil {
		unlock()
		return nil, err
	}
	d.unlock = unlock
	return d, nil
}

func (m *Memory) list(name string) (*maildrop, error) {
	m.mu.Lock()
	messages, ok := m.maildrops[name]
	m.mu.Unlock()
	if !ok {
		return nil, gateway.Unusable("there is no such maildrop", fmt.Errorf("no maildrop %q in memory", name))
	}
	d := &maildrop{memory: m, name: name, messages: messages}
	for _, msg := range messages {
		octets, err := wire.Count(bytes.NewReader(msg.Raw))
		if err != nil {
			return nil, fmt.Errorf("counting octets: %w", err)
		}
		d.sizes = append(d.sizes, octets)
	}
	return d, nil
}

// maildrop is a snapshot of one of memory's maildrops.
type maildrop struct {
	memory   *Memory
	name     string
	messages []Message
	sizes    []int64
	unlock   func()
}

func (d *maildrop) Len() int { return len(d.messages) }

func (d *maildrop) Size(i int) int64 { return d.sizes[i] }

func (d *maildrop) AppendUID(dst []byte, i int) []byte { return append(dst, d.messages[i].UID...) }

func (d *maildrop) Retrieve(ctx context.Context, i, lines int) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	uid := d.messages[i].UID
	if !slices.ContainsFunc(d.memory.Messages(d.name), func(msg Message) bool { return msg.UID == uid }) {
		return nil, gateway.Gone(nil)
	}
	return io.NopCloser(bytes.NewReader(d.messages[i].Raw)), nil
}

func (d *maildrop) Delete(ctx context.Context, marked []int, removed func(i int)) error {
	for k, i := range marked {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d messages remain: %w", len(marked)-k, err)
		}
		d.memory.Remove(d.name, d.messages[i].UID) // missing already is as good
		removed(i)
	}
	return nil
}

func (d *maildrop) Close() error {
	if d.unlock == nil {
		return errors.New("maildrop closed twice")
	}
	d.unlock()
	d.unlock = nil
	return nil
}
