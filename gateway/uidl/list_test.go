package uidl

import (
	"bytes"
	"strings"
	"testing"
)

func TestReadList(t *testing.T) {
	list, err := ReadList(strings.NewReader("# UIDL, Message-ID, size\n\nUID1-5\t<a b@example.org>\t100\r\nUID2-5 <b@example.org>\n3\t~12ab\t\n"), "list")
	if err != nil {
		t.Fatal(err)
	}
	want := []Listed{{"UID1-5", "<a b@example.org>", 100}, {"UID2-5", "<b@example.org>", -1}, {"3", "~12ab", -1}}
	if len(list) != 3 || list[0] != want[0] || list[1] != want[1] || list[2] != want[2] {
		t.Errorf("%+v", list)
	}
	var b bytes.Buffer
	list[0].Write(&b)
	if again, err := ReadList(&b, "list"); err != nil || again[0] != want[0] {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestWrongLists(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "list: no message in it"},
		{"# nothing\n", "list: no message in it"},
		{"a\t<1>\nb\t<2>\na\t<3>\n", `list:3: unique-id "a" is on line 1 already`},
		{"a\n", "list:1: found 1 fields"},
		{"a\tb\tc\td\n", "list:1: found 4 fields"},
		{"a b c d e\n", "list:1: found 5 fields"},
		{"\na\x01\t<1>\n", `list:2: unique-id "a\x01" has a character`},
		{"a b\t<1>\n", `list:1: unique-id "a b" has a character`},
		{"ä\t<1>\n", `list:1: unique-id "ä" has a character`},
		{"\t<1>\n", `list:1: unique-id "" has a character`},
		{strings.Repeat("a", 71) + "\t<1>\n", "list:1: unique-id"},
		{"a\t\t5\n", "list:1: the Message-ID is missing"},
		{"a\t<1>\t-5\n", `list:1: found "-5" for the size`},
		{"a\t<1>\t5 KB\n", `list:1: found "5 KB" for the size`},
		{"a\t<1>\n" + strings.Repeat("b", maxLine+1), "list:2: the line is longer than"},
		{strings.Repeat("a\n", 100), "list: there may be more, behind line 20"},
	} {
		_, err := ReadList(strings.NewReader(tt.text), "list")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want %q", tt.text, err, tt.want)
		}
	}
}

func FuzzReadList(f *testing.F) {
	f.Add("UID1-5\t<a@example.org>\t100\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadList(strings.NewReader(text), "list")
		if err != nil {
			return
		}
		all := make([]known, len(list))
		for i, l := range list {
			all[i] = known{ofReference(l.Reference), l.Size, l.UID}
		}
		if again, err := decodeKnown(encodeKnown(all), nil); err != nil || len(again) != len(all) {
			t.Errorf("%q cannot be kept: %v", text, err)
		}
	})
}

func FuzzChunks(f *testing.F) {
	f.Add(encodeKnown([]known{{1, 2, "a"}, {3, -1, "b"}}))
	f.Add(encodeNames([]named{{1, ""}, {2, "b"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := decodeKnown(b, nil); err == nil && len(all) > 0 {
			if again, err := decodeKnown(encodeKnown(all), nil); err != nil || len(again) != len(all) {
				t.Error("known cannot be written again")
			}
		}
		if all, err := decodeNames(b, nil); err == nil {
			newTable(all)
		}
	})
}
