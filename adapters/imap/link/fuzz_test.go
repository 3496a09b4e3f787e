package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// tape is a server that says the same whatever it is told, and then closes.
type tape struct {
	*end
	answers io.Reader
}

func (t tape) Read(p []byte) (int, error)  { return t.answers.Read(p) }
func (t tape) Write(p []byte) (int, error) { return len(p), nil }

// FuzzResponses reads arbitrary answers to a body, sizes and a command. No
// input may panic, hang, or make an incomplete body look complete.
func FuzzResponses(f *testing.F) {
	for _, seed := range []string{
		"* 1 FETCH (UID 7 BODY[] {5}\r\nhello)\r\nF1 OK\r\n* 1 FETCH (UID 7 RFC822.SIZE 5)\r\nF2 OK\r\nT1 OK [READ-ONLY] x\r\n",
		"* 1 FETCH (BODY[] \"a\\\"b\" UID 7)\r\n* 2 EXISTS\r\nF1 OK [x\r\n* 1 FETCH (FLAGS (\\Seen) UID 7)\r\nF2 NO [limit] y\r\n* FLAGS (a b)\r\nT1 BAD\r\n",
		"* 1 FETCH (UID 7 BODYSTRUCTURE ((((\"a\" {2}\r\n)()))) BODY[]<0> ~{0}\r\n)\r\nF1 OK\r\n* BYE [unavailable] x\r\n",
		"* LIST (\\A) \"/\" {3}\r\nabc\r\n* OK [UIDNEXT 5]\r\n* ESEARCH (TAG \"T1\") UID ALL 1:3\r\n+ x\r\n* 4 EXPUNGE\nF1 OK\n",
		"F1 OK\r\nF2 OK\r\n* CAPABILITY A\r\nF3 OK [CAPABILITY IMAP4rev1]\r\nF4 OK\r\n* 3 EXISTS\r\n* OK [UIDNEXT 5]\r\n* OK [CLOSED]\r\nF5 OK [READ-ONLY]\r\n* ESEARCH (TAG \"F6\") UID MIN 1 MAX 2 COUNT 2\r\nF6 OK\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answers []byte) {
		client, _ := pipe()
		nc := tape{client, io.MultiReader(strings.NewReader("* OK [CAPABILITY IMAP4rev1 ESEARCH] hi\r\n"), bytes.NewReader(answers))}
		c, err := Dial(context.Background(), Options{TLS: NoTLS, Dial: func(context.Context, string, string) (net.Conn, error) { return nc, nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b, err := c.FetchBody(context.Background(), 7, Section{})
		if err == nil {
			got, err := io.ReadAll(b)
			if err == nil && int64(len(got)) != b.Size() {
				t.Errorf("%d octets of %d, and no error", len(got), b.Size())
			}
			if err == nil && !bytes.Contains(answers, []byte("F1 ")) {
				t.Error("a body ended well before the command was completed")
			}
			if closed := b.Close(); (closed == nil) != (err == nil) {
				t.Errorf("Read ended with %v, Close with %v", err, closed)
			}
		}
		c.FetchSizes(context.Background(), "1:*", func(_ uint32, uid imap.UID, size int64) error {
			if uid == 0 || size < 0 {
				t.Errorf("UID %d, size %d", uid, size)
			}
			return nil
		})
		opened, err := c.Open(context.Background(), Opening{Login: "LOGIN ann x", Capability: true, Mailbox: "INBOX", Extent: true})
		if err == nil && c.Err() == nil && !opened.LoggedIn || err != nil && c.Err() == nil {
			t.Errorf("%+v, %v, and the connection goes on", opened, err)
		}
		err = c.Do(context.Background(), func(client *imapclient.Client) error {
			_, err := client.UIDSearch(&imap.SearchCriteria{}, &imap.SearchOptions{ReturnAll: true}).Wait()
			return err
		})
		if status := new(imap.Error); err != nil && !errors.As(err, &status) && c.Err() == nil {
			t.Errorf("error %v, and the connection goes on", err)
		}
	})
}

// FuzzItems compares skipping a response with reading it item by item, and
// both with where walk, which looks at line ends alone, sees its end.
func FuzzItems(f *testing.F) {
	f.Add([]byte("(UID 7 FLAGS (\\Seen) BODY[HEADER.FIELDS (A B)] {3}\r\nabc X NIL)\r\nrest"))
	f.Add([]byte("(A \"b\\\"{3}\" (C (D {0}\r\n)) E)\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(parse func(*items) error) (rest string, err error) {
			r := newReader(bytes.NewReader(data), 1000)
			line, err := r.line()
			if err != nil {
				return "", err
			}
			it := newItems(r, 1, line)
			if err := parse(&it); err != nil {
				return "", err
			}
			left, _ := io.ReadAll(r.br)
			return string(left), nil
		}
		skipped, err := read((*items).skipRest)
		if err != nil {
			return
		}
		walked, err := read(func(it *items) error { return it.r.walk(it.line, false, nil) })
		if err != nil || walked != skipped {
			t.Errorf("walk leaves %q, %v; skipRest %q", walked, err, skipped)
		}
	})
}
