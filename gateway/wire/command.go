package wire

import (
	"bytes"
	"errors"
)

// Command is a command line taken apart: a keyword, and what follows it. It
// refers to the line.
type Command struct {
	Keyword []byte // in upper case, 1 to MaxKeyword letters, digits or hyphens
	Rest    []byte // behind the one SPACE after the keyword, as it was sent
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

// ParseCommand takes a line without its line end, and turns the keyword in it
// into upper case. Old clients' habits are welcome: lower case, spaces at the end.
// The errors are fit for a client.
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
	for i, c := range word {
		switch {
		case 'a' <= c && c <= 'z':
			word[i] = c - ('a' - 'A')
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return Command{}, ErrKeyword
		}
	}
	// A password may hold any character that does not end a line (RFC 1939 §7).
	isPassword := string(word) == "PASS"
	for _, c := range rest {
		if isPassword && (c == 0 || c == '\r') || !isPassword && (c < ' ' || c == 0x7f) {
			return Command{}, ErrControl
		}
	}
	return Command{Keyword: word, Rest: rest}, nil
}

// AppendArgs appends the arguments, which spaces separate, to dst: at least min
// and at most max of them, else ErrNoArgument or ErrArguments.
func (c Command) AppendArgs(dst [][]byte, min, max int) ([][]byte, error) {
	args := 0
	for rest := c.Rest; ; args++ {
		rest = bytes.TrimLeft(rest, " ")
		if len(rest) == 0 {
			break
		}
		if args == max {
			return dst, ErrArguments
		}
		var arg []byte
		arg, rest, _ = bytes.Cut(rest, []byte{' '})
		dst = append(dst, arg)
	}
	if args < min {
		return dst, ErrNoArgument
	}
	return dst, nil
}

// MaxNumber bounds the numbers of commands: message numbers, and TOP's lines.
const MaxNumber = 1<<31 - 1

// ParseNumber reads a decimal number from 0 to MaxNumber. Signs, other bases
// and digits of other scripts are ErrNumber; a larger number is ErrNumberRange,
// and never the number that is left of it in some integer type.
func ParseNumber(s []byte) (int, error) {
	if len(s) == 0 {
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
