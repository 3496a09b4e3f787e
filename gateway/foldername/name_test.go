package foldername

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEncode(t *testing.T) {
	for name, want := range map[string]string{
		"INBOX":             "INBOX",
		"Entwürfe":          "Entw&APw-rfe",
		"R&D":               "R&-D",
		"日本語/台北":            "&ZeVnLIqe-/&U,BTFw-",
		"~peter/mail/台北":    "~peter/mail/&U,BTFw-",
		"😀":                 "&2D3eAA-",
		"Geloschte Objekte": "Geloschte Objekte",
	} {
		if got := Encode(name); got != want {
			t.Errorf("Encode(%q) = %q, want %q", name, got, want)
		}
		if got, err := Decode(want); err != nil || got != name {
			t.Errorf("Decode(%q) = %q, %v, want %q", want, got, err, name)
		}
	}
	for _, text := range []string{"R&D", "&", "&-&", "&AGE-", "&APw", "&APx-", "&AP-", "&2D0-", "Entwürfe", "&U,BTFw-&ZeVnLIqe-"} {
		if name, err := Decode(text); err == nil {
			t.Errorf("Decode(%q) = %q", text, name)
		}
	}
}

func TestTyped(t *testing.T) {
	for typed, want := range map[string]string{
		"":                "",
		"Junk":            "Junk",
		"Entwürfe":        "Entwürfe",
		"Entw&APw-rfe":    "Entwürfe",
		"R&D":             "R&D",
		"R&-D":            "R&D",
		"Work/2026.Q1":    "Work/2026.Q1",
		"with space":      "with space",
		"#shared/news":    "#shared/news",
		"Other Users/ann": "Other Users/ann",
	} {
		if got, err := Typed(typed); err != nil || got != want {
			t.Errorf("Typed(%q) = %q, %v, want %q", typed, got, err, want)
		}
	}
	for _, typed := range []string{
		"..", ".", "/", "../x", "x/..", "x//y", "x..y", "/etc/passwd", "x/", ".x", "~root", "~", "x/./y", " ", "x/ /y",
		"a*", "a%", "a\x00b", "a\nb", "&AAA-", "\xff", strings.Repeat("x", 256), strings.Repeat("ü", 100),
	} {
		if name, err := Typed(typed); err == nil {
			t.Errorf("Typed(%q) = %q", typed, name)
		}
	}
}

func FuzzTyped(f *testing.F) {
	for _, seed := range []string{"Entw&APw-rfe", "Entwürfe", "../x", "&-", "&2D3eAA-", "&AC8-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		if name, err := Decode(typed); err == nil && Encode(name) != typed {
			t.Errorf("%q decodes to %q and is encoded as %q", typed, name, Encode(name))
		}
		name, err := Typed(typed)
		if err != nil {
			return
		}
		encoded := Encode(name)
		back, err := Decode(encoded)
		if err != nil || back != name || !utf8.ValidString(name) {
			t.Errorf("%q is %q, encoded %q, decoded %q, %v", typed, name, encoded, back, err)
		}
		for level := range strings.SplitSeq(encoded, "/") {
			if name != "" && (level == "" || level == "." || level == "..") {
				t.Errorf("%q leads out of the folder: %q", typed, encoded)
			}
		}
	})
}
