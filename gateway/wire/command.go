package wire

import (
	"bytes"
	"errors"
	"strings"
)

// Command is a command line taken apart: a keyword, and what follows it.
type Command struct {
	Keyword string // in upper case, 1 to MaxKeyword letters, digits or hyphens
	Rest    string // behind the one SPACE after the keyword, as it was sent
}

// MaxKeyword bounds a keyword. RFC 2449 §3 has 3 or 4 octets; a longer word
// only has to be recognised as an unknown command.
const MaxKeyword = 16

var (
	ErrEmptyLine   = errors.New("empty command line")
	ErrKeyword     = errors.New("a command line begins with a command of letters")
	ErrControl     = errors.New("control characters are not allowed in a command")
	ErrNoArgument  = errors.New("an argument is missing")
	ErrArguments   = errors.New("too many arguments")
	ErrNumber      = errors.New("a number has digits only")
	ErrNumberRange = errors.New("no such message")
)

// ParseCommand takes a line without its line end. Old clients' habits are
// welcome: lower case, spaces at the end. The errors are fit for a client.
func ParseCommand(line []byte) (Command, error) {
	word, rest, _ := bytes.Cut(line, []byte{' '})
	if len(word) == 0 {
		if len(bytes.TrimLeft(line, " ")) == 0 {
			return Command{}, ErrEmptyLine
		}
		return Command{}, ErrKeyword
	}
	if len(word) > MaxKeyword {
		return Command{}, ErrKeyword
	}
	var upper [MaxKeyword]byte
	for i, c := range word {
		switch {
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return Command{}, ErrKeyword
		}
		upper[i] = c
	}
	cmd := Command{Keyword: string(upper[:len(word)]), Rest: string(rest)}
	// A password may hold any character that does not end a line (RFC 1939 §7).
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	if cmd.Keyword == "PASS" {
		isControl = func(r rune) bool { return r == 0 || r == '\r' }
	}
	if strings.IndexFunc(cmd.Rest, isControl) >= 0 {
		return Command{}, ErrControl
	}
	return cmd, nil
}

// Args returns the arguments, which spaces separate: at least min and at most
// max of them, else ErrNoArgument or ErrArguments.
func (c Command) Args(min, max int) ([]string, error) {
	if c.Rest == "" && min == 0 { // the common case, without garbage
		return nil, nil
	}
	var args []string
	for rest := c.Rest; ; {
		rest = strings.TrimLeft(rest, " ")
		if rest == "" {
			break
		}
		if len(args) == max {
			return nil, ErrArguments
		}
		var arg string
		arg, rest, _ = strings.Cut(rest, " ")
		args = append(args, arg)
	}
	if len(args) < min {
		return nil, ErrNoArgument
	}
	return args, nil
}

// MaxNumber bounds the numbers of commands: message numbers, and TOP's lines.
const MaxNumber = 1<<31 - 1

// ParseNumber reads a decimal number from 0 to MaxNumber. Signs, other bases
// and digits of other scripts are ErrNumber; a larger number is ErrNumberRange,
// and never the number that is left of it in some integer type.
func ParseNumber(s string) (int, error) {
	if s == "" {
		return 0, ErrNumber
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, ErrNumber
		}
	}
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
		if n > MaxNumber {
			return 0, ErrNumberRange
		}
	}
	return n, nil
}
