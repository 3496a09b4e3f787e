package account

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNormal(t *testing.T) {
	long := strings.Repeat("x", maxName)
	tests := []struct {
		rules       nameRules
		typed, want string // want "" for refused
	}{
		{nameRules{}, "bob", "bob"},
		{nameRules{}, "Bob@Example.ORG", "Bob@Example.ORG"},
		{nameRules{lowerCase: true}, "Bob@Example.ORG", "bob@example.org"},
		{nameRules{lowerCase: true}, "BÖB", "böb"},
		{nameRules{domain: "example.org"}, "bob", "bob@example.org"},
		{nameRules{domain: "example.org"}, "bob@example.net", "bob@example.net"},
		{nameRules{domain: "Example.org", lowerCase: true}, "Bob", "bob@example.org"},
		{nameRules{domain: "example.org"}, "bob@", ""},
		{nameRules{}, "@example.org", ""},
		{nameRules{}, "a@b@c", "a@b@c"},
		{nameRules{}, " bob ", " bob "},
		{nameRules{}, "b/o..b", "b/o..b"},
		{nameRules{}, long, long},
		{nameRules{}, long + "x", ""},
		{nameRules{domain: "example.org"}, long, ""},
		{nameRules{}, "", ""},
		{nameRules{domain: "example.org"}, "", ""},
		{nameRules{}, "bob\x00", ""},
		{nameRules{}, "bob\tx", ""},
		{nameRules{}, "bob\x7f", ""},
		{nameRules{}, "bob\u0085", ""},
		{nameRules{}, "bob\xff", ""},
	}
	for _, tt := range tests {
		got, err := tt.rules.normal(tt.typed)
		if err != nil {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%+v.normal(%q) = %q, %v, want %q", tt.rules, tt.typed, got, err, tt.want)
		}
	}
}

func TestSplitFolder(t *testing.T) {
	tests := []struct {
		typed, name, folder string
		ok                  bool
	}{
		{"bob", "bob", "", false},
		{"bob@example.org", "bob@example.org", "", false},
		{"bob+Sent", "bob", "Sent", true},
		{"bob+Sent@example.org", "bob@example.org", "Sent", true},
		{"bob@example.org+Sent", "bob@example.org", "Sent", true},
		{"bob@example.org+Lists/a@b", "bob@example.org", "Lists/a@b", true},
		{"bob+Lists/a@b@example.org", "bob@example.org", "Lists/a@b", true},
		{"bob+c++@example.org", "bob@example.org", "c++", true},
		{"bob+Work.2024", "bob", "Work.2024", true},
		{"bob+", "bob", "", true},
		{"bob+inBOX", "bob", "", true},
		{"bob+INBOX/x", "bob", "INBOX/x", true},
		{"+Sent", "", "Sent", true},
	}
	for _, tt := range tests {
		name, folder, ok := splitFolder(tt.typed)
		if name != tt.name || folder != tt.folder || ok != tt.ok {
			t.Errorf("splitFolder(%q) = %q, %q, %v, want %q, %q, %v", tt.typed, name, folder, ok, tt.name, tt.folder, tt.ok)
		}
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"*", "bob", true},
		{"*", "", true},
		{"", "", true},
		{"", "b", false},
		{"bob", "BOB", true},
		{"bob", "bobb", false},
		{"*@example.org", "bob@example.org", true},
		{"*@Example.ORG", "bob@EXAMPLE.org", true},
		{"*@example.org", "bob@example.org.evil", false},
		{"*@example.org", "bob@sub.example.org", false},
		{"*example.org", "bob@sub.example.org", true},
		{"*@*.example.org", "bob@sub.example.org", true},
		{"b?b", "böb", true},
		{"b?b", "bb", false},
		{"b?b", "boob", false},
		{"a*b*c", "axxbyybzc", true},
		{"a*b*c", "axxbyybz", false},
		{"**b", "aab", true},
		{"b**", "b", true},
		{"[a]", "a", false},
		{"*" + strings.Repeat("a*", 60) + "b", strings.Repeat("a", 255), false}, // not exponential
	}
	for _, tt := range tests {
		if got := matches(tt.pattern, tt.name); got != tt.want {
			t.Errorf("matches(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}

func FuzzLoginName(f *testing.F) {
	for _, s := range []string{"bob", "Bob+Sent@Example.org", "bob@example.org+c++", "BÖB", "\u0130x", "a\x00", "+", "@", "+@"} {
		f.Add(s, true, "example.org")
		f.Add(s, false, "")
	}
	f.Fuzz(func(t *testing.T, typed string, lowerCase bool, domain string) {
		name, folder, ok := splitFolder(typed)
		if !ok && name != typed || len(name)+len(folder) > len(typed) {
			t.Fatalf("splitFolder(%q) = %q, %q", typed, name, folder)
		}
		if checkLogin(Config{DefaultDomain: domain, Routes: make([]Route, 1)}) != nil {
			return // New refuses the domain
		}
		rules := nameRules{domain, lowerCase}
		normal, err := rules.normal(typed)
		if err != nil {
			return
		}
		if normal == "" || len(normal) > maxName || !utf8.ValidString(normal) || strings.ContainsAny(normal, "\x00\r\n\t\x7f") {
			t.Fatalf("%+v.normal(%q) = %q", rules, typed, normal)
		}
		if again, err := rules.normal(normal); err != nil || again != normal {
			t.Fatalf("%q becomes %q, %v when normalised again", normal, again, err)
		}
		if !matches("*", normal) || !matches(normal, normal) {
			t.Fatalf("%q does not match itself", normal)
		}
	})
}
