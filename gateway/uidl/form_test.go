package uidl

import (
	"strings"
	"testing"
)

const everything = "uvfgmG"

func TestForms(t *testing.T) {
	v := Values{UID: 4391, Validity: 1700000000, File: "1700000000.M1P2.host,S=5", GUID: "0123abcd", MD5: "d41d8cd98f00b204e9800998ecf8427e", Gmail: 0x18c3a0b1c2d3e4f5}
	for _, tt := range []struct{ form, want string }{
		// By what the servers themselves do.
		{"dovecot", "000011276553f100"},
		{"courier", "UID4391-1700000000"},
		{"cyrus", "1700000000.4391"},
		{"uw", "6553f10000001127"},
		{"qmail", "1700000000.M1P2.host,S=5"},
		{"tpop3d", "6a27c7be4f6d1e5e5d3dd4c4f9b0d3a6"},
		{"stalwart", "17000000004391"},
		{"gmail", "GmailId18c3a0b1c2d3e4f5"},
		{"%08Xu%08Xv", "000011276553f100"},
		{"%v-%u", "1700000000-4391"},
		{"%u", "4391"},
		{"%Xu", "1127"},
		{"%010u", "0000004391"},
		{"%XUv.%u", "6553F100.4391"},
		{"%UXv.%u", "6553f100.4391"}, // before it is hexadecimal it has no letters
		{"%g", "0123abcd"},
		{"%Ug", "0123ABCD"},
		{"%m", "d41d8cd98f00b204e9800998ecf8427e"},
		{"a%%%u", "a%4391"},
		{"%{uid | hex(8)}%{uidvalidity | hex(8)}", "000011276553f100"},
		{"%{uidvalidity}.%{uid}", "1700000000.4391"},
		{"%{filename | md5 | hexlify}", "6a27c7be4f6d1e5e5d3dd4c4f9b0d3a6"},
	} {
		f, err := Parse(tt.form, everything)
		if err != nil {
			t.Errorf("%s: %v", tt.form, err)
			continue
		}
		got := string(f.Append([]byte("x"), &v))
		if strings.Contains(tt.want, "6a27c7be") { // as md5sum has it
			tt.want = md5Of(v.File)
		}
		if got != "x"+tt.want {
			t.Errorf("%s: %q, want %q", tt.form, got[1:], tt.want)
		}
		again, err := Parse(f.String(), everything)
		if f.HasGmail() {
			continue // in no template
		}
		if err != nil || again.String() != f.String() || string(again.Append(nil, &v)) != tt.want {
			t.Errorf("%s: normal form %q gives %q, %v", tt.form, f.String(), again.Append(nil, &v), err)
		}
	}
}

func TestFormsThatAreOne(t *testing.T) {
	a, _ := Parse("dovecot", everything)
	b, _ := Parse("%{uid | hex(8)}%{uidvalidity|hex(8)}", everything)
	if a.String() != b.String() {
		t.Errorf("%q and %q", a.String(), b.String())
	}
}

func TestWrongForms(t *testing.T) {
	for _, tt := range []struct{ form, allowed, want string }{
		{"pop3", "uv", `allowed are "dovecot", "courier"`},
		{"%", "uv", "followed by"},
		{"%08", "uv", "followed by"},
		{"%x", "uv", "followed by"},
		{"%{uid", "uv", "followed by"},
		{"%{uid | rot13}", "uv", "followed by"},
		{"%{uid | hex(99)}", "uv", "followed by"},
		{"%99999999999u", "uv", "followed by"},
		{"%8u", "uv", "followed by"}, // filled up with spaces
		{"%Mu", "uv", "followed by"},
		{"%Xf", "uvf", "followed by"},
		{"%G", everything, "followed by"},
		{"%m", "uvfg", "%m is a digest of headers that Dovecot has for mbox alone"},
		{"%v", "uv", "gives all messages one name"},
		{"%u %v", "uv", `" " cannot be part`},
		{"ü%u", "uv", "cannot be part"},
		{"%u" + strings.Repeat("a", 71), "uv", "cannot be part"},
		{"qmail", "uv", `needs file names; only adapters of type "maildir" have them`},
		{"%f", "uv", "needs file names"},
		{"gmail", "uvfg", `needs message ids of Gmail; only adapters of type "imap"`},
	} {
		_, err := Parse(tt.form, tt.allowed)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.form, err, tt.want)
		}
	}
}

func TestAppendLegal(t *testing.T) {
	for _, tt := range []struct {
		id    string
		stays bool
	}{
		{"a", true},
		{strings.Repeat("~", 70), true},
		{"", false},
		{strings.Repeat("~", 71), false},
		{"a b", false},
		{"a\x7f", false},
		{"ä", false},
		{hashPrefix + "a", false},
	} {
		got := string(AppendLegal([]byte("7 "+tt.id), 2))
		if !strings.HasPrefix(got, "7 ") || !Legal(got[2:]) || (got == "7 "+tt.id) != tt.stays {
			t.Errorf("%q: %q", tt.id, got)
		}
	}
}

func TestAppendWithoutGarbage(t *testing.T) {
	f, _ := Parse("dovecot", "uv")
	dst := make([]byte, 0, 100)
	v := Values{UID: 5, Validity: 6}
	if n := testing.AllocsPerRun(100, func() { dst = AppendLegal(f.Append(dst[:0], &v), 0) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzForm(f *testing.F) {
	for _, preset := range Presets {
		f.Add(preset)
		f.Add(presets[preset])
	}
	f.Add("%{uid | hex(8)}")
	f.Fuzz(func(t *testing.T, text string) {
		form, err := Parse(text, everything)
		if err != nil {
			return
		}
		v := Values{UID: 1, Validity: 2, File: "a:b c", GUID: "", MD5: "x"}
		if id := AppendLegal(form.Append(nil, &v), 0); !Legal(id) {
			t.Errorf("%q gives %q", text, id)
		}
		if again, err := Parse(form.String(), everything); !form.HasGmail() && (err != nil || again.String() != form.String()) {
			t.Errorf("%q: %q, then %q, %v", text, form.String(), again.String(), err)
		}
	})
}
