package maildir

import (
	"math"
	"pop3gw/gateway/uidl"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	tests := []struct {
		name, base string
		delivered  int64
		size       int64 // -1: not stated
	}{
		{"1700000000.M1P2.host", "1700000000.M1P2.host", 1700000000000001, -1},
		{"1700000000.M1P2.host:2,", "1700000000.M1P2.host", 1700000000000001, -1},
		{"1700000000.M1P2.host:2,FRS", "1700000000.M1P2.host", 1700000000000001, -1},
		{"1700000000.M1P2.host,S=123,W=130:2,S", "1700000000.M1P2.host,S=123,W=130", 1700000000000001, 123},
		{"1700000000.M1P2.host,W=130,S=123", "1700000000.M1P2.host,W=130,S=123", 1700000000000001, 123},
		{"1700000000.M1P2.host,S=0", "1700000000.M1P2.host,S=0", 1700000000000001, 0},
		{"1.host,S=:2,S", "1.host,S=", 1000000, -1},
		{"1.host,S=-5", "1.host,S=-5", 1000000, -1},
		{"1.host,S=1x", "1.host,S=1x", 1000000, -1},
		{"1.host,S=99999999999999999999", "1.host,S=99999999999999999999", 1000000, -1},
		{"1.S=7.host", "1.S=7.host", 1000000, -1},
		{"1.host:2,S,S=9", "1.host", 1000000, -1},
		{"1.host:2,S:2,T", "1.host", 1000000, -1},
		{"1.host:", "1.host", 1000000, -1},
		{"1.host;2,S", "1.host;2,S", 1000000, -1},
		{":2,S", "", 0, -1},
		{"msg.ann", "msg.ann", 0, -1},
		{"12ab", "12ab", 12000000, -1},
		{"-5.host", "-5.host", 0, -1},
		{"5.M999999P1.host", "5.M999999P1.host", 5999999, -1},
		{"5.M1000000P1.host", "5.M1000000P1.host", 5000000, -1},
		{"5.MxP1.host", "5.MxP1.host", 5000000, -1},
		{"5.host.M7", "5.host.M7", 5000000, -1},
		{"9223372036853.host", "9223372036853.host", 9223372036853000000, -1},
		{"9223372036854.M1", "9223372036854.M1", math.MaxInt64, -1},
		{"99999999999999999999.host", "99999999999999999999.host", math.MaxInt64, -1},
	}
	for _, test := range tests {
		m := newMessage(inCur, test.name)
		if m.base() != test.base || m.delivered != test.delivered {
			t.Errorf("%q: base name %q of %d, want %q of %d", test.name, m.base(), m.delivered, test.base, test.delivered)
		}
		size, ok := statedSize(m.base())
		if !ok {
			size = -1
		}
		if size != test.size {
			t.Errorf("%q: states the size %d, want %d", test.name, size, test.size)
		}
	}
}

func TestUIDForm(t *testing.T) {
	seventy := strings.Repeat("x", 70)
	// printf %s BASE | sha256sum | cut -c1-48
	tests := []struct{ base, uid string }{
		{"1700000000.M1P2.host,S=12", "1700000000.M1P2.host,S=12"},
		{"!~", "!~"},
		{seventy, seventy},
		{"", "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934c"},
		{"a b", "sha256-c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c203"},
		{"caf\xc3\xa9", "sha256-850f7dc43910ff890f8879c0ed26fe697c93a067ad93a7d5"},
		{"sha256-", "sha256-dfde52af987539e47957ca31c6703f5d33acba313a839d99"},
	}
	for _, test := range tests {
		if got := string(legalUID(test.base)); got != test.uid {
			t.Errorf("the UID of %q is %q, want %q", test.base, got, test.uid)
		}
	}
	// What looks like a hash is hashed: nobody can deliver a file that takes the
	// UID of another.
	hash := string(legalUID("a b"))
	if got := string(legalUID(hash)); got == hash {
		t.Errorf("the base name %q shares its UID with another", hash)
	}
	if a, b := appendDuplicateUID(nil, "x", 1), appendDuplicateUID(nil, "x", 11); string(a) == string(b) {
		t.Errorf("two files share the UID %q", a)
	}
}

func FuzzName(f *testing.F) {
	f.Add("1700000000.M1P2.host,S=123,W=130:2,S", "1700000000.M1P2.host:2,")
	f.Add("a b", "sha256-c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c203")
	f.Add("", ":")
	f.Add("99999999999999999999", "\x00,S=99999999999999999999")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := newMessage(inNew, a), newMessage(inCur, b)
		for _, m := range []*message{&x, &y} {
			if !strings.HasPrefix(m.name, m.base()) || strings.Contains(m.base(), ":") {
				t.Fatalf("%q has the base name %q", m.name, m.base())
			}
			if m.delivered < 0 {
				t.Fatalf("%q is delivered at %d", m.name, m.delivered)
			}
			if size, ok := statedSize(m.base()); ok && (size < 0 || !strings.Contains(m.base(), ",S=")) {
				t.Fatalf("%q states the size %d", m.name, size)
			}
			checkUID(t, m.base(), legalUID(m.base()))
			checkUID(t, m.base(), appendDuplicateUID(nil, m.base(), 1<<64-1))
		}
		same := string(legalUID(x.base())) == string(legalUID(y.base()))
		if same != (x.base() == y.base()) {
			t.Fatalf("%q and %q: the same UID is %v", a, b, same)
		}
		if c := compareBase(&x, &y); (c == 0) != (x.base() == y.base()) || c != -compareBase(&y, &x) {
			t.Fatalf("%q and %q compare as %d", a, b, c)
		}
	})
}

func checkUID(t *testing.T, base string, uid []byte) {
	t.Helper()
	if len(uid) < 1 || len(uid) > 70 {
		t.Fatalf("the UID of %q has %d octets", base, len(uid))
	}
	for _, c := range uid {
		if c < 0x21 || c > 0x7e {
			t.Fatalf("the UID of %q is %q", base, uid)
		}
	}
}

// legalUID is the unique-id of a file without anything else that names it.
func legalUID(base string) []byte { return uidl.AppendLegal([]byte(base), 0) }
