package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// memServer is go-imap's server in memory, over loopback TCP, with messages of
// sizes 100, 1100, 2100... in INBOX.
func memServer(t testing.TB, mode TLSMode, messages int) Options {
	t.Helper()
	user := imapmemserver.NewUser("joe", "secret")
	if err := user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		if _, err := user.Append("INBOX", bytes.NewReader(message(100+1000*i)), &imap.AppendOptions{Time: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	mem := imapmemserver.New()
	mem.AddUser(user)
	options := &imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}, imap.CapMove: {}},
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
	}
	listener := listen(t)
	opts := Options{Address: listener.Addr().String(), TLS: mode}
	opts.TLSConfig = clientTLS()
	opts.TLSConfig.ServerName = host
	switch mode {
	case StartTLS:
		options.TLSConfig = serverTLS()
	case Implicit:
		listener = tls.NewListener(listener, serverTLS())
	}
	server := imapserver.New(options)
	served := make(chan struct{})
	go func() { server.Serve(listener); close(served) }()
	t.Cleanup(func() { server.Close(); <-served })
	return opts
}

// message is one of that many octets, at least 20.
func message(octets int) []byte {
	m := []byte("Subject: test\r\n\r\n")
	for i := 0; len(m) < octets-2; i++ {
		m = append(m, byte('a'+i%26))
		if i%70 == 69 && len(m) < octets-4 {
			m = append(m, '\r', '\n')
		}
	}
	return append(m, '\r', '\n')
}

// imapclient and our own reader take turns on one stream, thousands of times.
func TestSwitch(t *testing.T) {
	const messages, rounds = 8, 1500
	for _, mode := range []TLSMode{NoTLS, Implicit, StartTLS} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			c, err := Dial(ctx, memServer(t, mode, messages))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = c.Do(ctx, func(client *imapclient.Client) error {
				login, examine := client.Login("joe", "secret"), client.Select("INBOX", &imap.SelectOptions{ReadOnly: true})
				if err := login.Wait(); err != nil {
					return err
				}
				mailbox, err := examine.Wait()
				if err == nil && mailbox.NumMessages != messages {
					t.Errorf("%d messages", mailbox.NumMessages)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range rounds {
				switch i % 3 {
				case 0:
					err = c.Do(ctx, func(client *imapclient.Client) error {
						a, b := client.Noop(), client.UIDSearch(&imap.SearchCriteria{}, nil)
						if err := a.Wait(); err != nil {
							return err
						}
						found, err := b.Wait()
						if err == nil && len(found.AllUIDs()) != messages {
							err = fmt.Errorf("found %v", found.AllUIDs())
						}
						return err
					})
				case 1:
					n := 0
					err = c.FetchSizes(ctx, "1:*", func(_ uint32, uid imap.UID, size int64) error {
						if n++; uid != imap.UID(n) || size != int64(1000*n-900) {
							t.Errorf("message %d: UID %d, size %d", n, uid, size)
						}
						return nil
					})
					if n != messages {
						t.Errorf("%d sizes", n)
					}
				case 2:
					n := i % messages
					var b *Body
					if b, err = c.FetchBody(ctx, imap.UID(n+1), Section{}); err != nil {
						break
					}
					if i%5 == 0 {
						err = b.Close()
						break
					}
					var got []byte
					if got, err = io.ReadAll(b); err == nil && !bytes.Equal(got, message(100+1000*n)) {
						t.Errorf("message %d differs", n)
					}
					b.Close()
				}
				if err != nil {
					t.Fatalf("round %d: %v", i, err)
				}
			}
			if _, err := c.FetchBody(ctx, 99, Section{}); err != ErrNoMessage {
				t.Errorf("FetchBody of no message: %v", err)
			}
			b, err := c.FetchBody(ctx, 8, Section{Octets: 50})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, message(7100)[:50]) {
				t.Errorf("50 octets: got %q, %v", got, err)
			}
			b.Close()
			if err := c.Logout(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// The commands of UPDATE, against a server that speaks them all.
func TestUpdate(t *testing.T) {
	ctx := context.Background()
	c, err := Dial(ctx, memServer(t, NoTLS, 300))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Do(ctx, func(client *imapclient.Client) error {
		if err := client.Login("joe", "secret").Wait(); err != nil {
			return err
		}
		if _, err := client.Select("INBOX", nil).Wait(); err != nil {
			return err
		}
		uids := imap.UIDSet{{Start: 1, Stop: 299}}
		store := client.Store(uids, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil)
		expunge := client.UIDExpunge(uids)
		if err := store.Close(); err != nil {
			return err
		}
		if err := expunge.Close(); err != nil {
			return err
		}
		left, err := client.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
		if err == nil && (len(left.AllUIDs()) != 1 || left.AllUIDs()[0] != 300) {
			t.Errorf("left: %v", left.AllUIDs())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Close, the end of a context and operations meet in any order.
func TestRaces(t *testing.T) {
	opts := memServer(t, NoTLS, 3)
	for i := range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		c, err := Dial(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for c.Err() == nil {
				c.Do(ctx, func(client *imapclient.Client) error { return client.Login("joe", "secret").Wait() })
				if b, err := c.FetchBody(ctx, 1, Section{}); err == nil {
					b.Close()
				}
				if ctx.Err() != nil {
					return
				}
			}
		})
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Microsecond)
			if i%2 == 0 {
				cancel()
			} else {
				c.Close()
			}
		})
		wg.Wait()
		c.Close()
		cancel()
	}
}
