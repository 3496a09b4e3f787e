package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	tests := []struct {
		line          string
		keyword, rest string
		err           error
	}{
		{"NOOP", "NOOP", "", nil},
		{"noop", "NOOP", "", nil},
		{"retr 1 ", "RETR", "1 ", nil},
		{"PASS two words ", "PASS", "two words ", nil},
		{"PASS  \x01\t\xff", "PASS", " \x01\t\xff", nil},
		{"PASS a\x00b", "", "", ErrControl},
		{"PASS a\rb", "", "", ErrControl},
		{"USER a\tb", "", "", ErrControl},
		{"USER a\x7fb", "", "", ErrControl},
		{"USER \xc3\xbc", "USER", "\xc3\xbc", nil},
		{"", "", "", ErrEmptyLine},
		{"   ", "", "", ErrEmptyLine},
		{" NOOP", "", "", ErrKeyword},
		{"NOOP\tx", "", "", ErrKeyword},
		{"N\xd6OP", "", "", ErrKeyword},
		{"NOOP\r", "", "", ErrKeyword},
		{strings.Repeat("A", MaxKeyword), strings.Repeat("A", MaxKeyword), "", nil},
		{strings.Repeat("A", MaxKeyword+1), "", "", ErrKeyword},
	}
	for _, tt := range tests {
		cmd, err := ParseCommand([]byte(tt.line))
		if string(cmd.Keyword) != tt.keyword || string(cmd.Rest) != tt.rest || err != tt.err {
			t.Errorf("ParseCommand(%q) = %q, %v", tt.line, cmd, err)
		}
	}
}

func TestArgs(t *testing.T) {
	tests := []struct {
		rest     string
		min, max int
		want     []string
		err      error
	}{
		{"", 0, 0, nil, nil},
		{"  ", 0, 0, nil, nil},
		{"x", 0, 0, nil, ErrArguments},
		{"", 1, 1, nil, ErrNoArgument},
		{" ", 1, 1, nil, ErrNoArgument},
		{"1 ", 1, 1, []string{"1"}, nil},
		{" 1", 1, 1, []string{"1"}, nil},
		{"1 2", 1, 1, nil, ErrArguments},
		{"1  2 ", 2, 2, []string{"1", "2"}, nil},
		{"1", 2, 2, nil, ErrNoArgument},
	}
	for _, tt := range tests {
		args, err := Command{Rest: []byte(tt.rest)}.AppendArgs(nil, tt.min, tt.max)
		var got []string
		for _, arg := range args {
			got = append(got, string(arg))
		}
		if err == nil && !slices.Equal(got, tt.want) || err != tt.err {
			t.Errorf("Args(%q, %d, %d) = %q, %v", tt.rest, tt.min, tt.max, got, err)
		}
	}
}

func TestParseNumber(t *testing.T) {
	tests := []struct {
		s    string
		want int
		err  error
	}{
		{"0", 0, nil}, {"1", 1, nil}, {"007", 7, nil}, {"2147483647", MaxNumber, nil},
		{"2147483648", 0, ErrNumberRange}, {"4294967297", 0, ErrNumberRange},
		{"18446744073709551617", 0, ErrNumberRange}, {strings.Repeat("9", 1000), 0, ErrNumberRange},
		{"", 0, ErrNumber}, {"-1", 0, ErrNumber}, {"+1", 0, ErrNumber}, {"1x", 0, ErrNumber},
		{"1.0", 0, ErrNumber}, {"0x1", 0, ErrNumber}, {"1e3", 0, ErrNumber}, {"\u0661", 0, ErrNumber},
		{strings.Repeat("9", 100) + "x", 0, ErrNumber},
	}
	for _, tt := range tests {
		if got, err := ParseNumber([]byte(tt.s)); got != tt.want || err != tt.err {
			t.Errorf("ParseNumber(%.20q) = %d, %v; want %d, %v", tt.s, got, err, tt.want, tt.err)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"NOOP", "retr 1", "TOP 1 0 ", "PASS  a b ", "\x00", " x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		sent := string(line)
		cmd, err := ParseCommand(line)
		if err != nil {
			return
		}
		keyword := string(cmd.Keyword)
		if keyword == "" || len(keyword) > MaxKeyword || strings.ContainsAny(keyword, " \r\n\x00") || keyword != strings.ToUpper(keyword) {
			t.Fatalf("%q has keyword %q", sent, keyword)
		}
		if !strings.EqualFold(strings.TrimSuffix(keyword+" "+string(cmd.Rest), " "), strings.TrimSuffix(sent, " ")) {
			t.Fatalf("%q became %q", sent, line)
		}
		args, err := cmd.AppendArgs(nil, 0, 2)
		if err != nil {
			return
		}
		for _, arg := range args {
			if len(arg) == 0 || bytes.Contains(arg, []byte(" ")) {
				t.Fatalf("%q has arguments %q", line, args)
			}
			if n, err := ParseNumber(arg); err == nil && (n < 0 || n > MaxNumber) {
				t.Fatalf("%q is number %d", arg, n)
			}
		}
	})
}
