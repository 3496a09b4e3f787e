package link

// sent follows the commands that imapclient sends, to know which tags are to be
// answered. Commands may come in pieces of any size.
type sent struct {
	word    [24]byte // what the line began with
	n       int      // octets of it; -1 once it is clear what they were
	octets  int64    // of a literal still to come, or being announced
	literal literalState
}

type literalState byte

const (
	noLiteral  literalState = iota
	digits                  // behind "{"
	closed                  // behind "{5}" or "{5+}", which a line end must follow
	inLiteral               // octets are to come
	afterPlus               // behind "{5+"
	literalEnd              // the line goes on behind a literal
)

// scan calls began with the number n of each tag T<n> that begins a command.
func (s *sent) scan(p []byte, began func(tag int64)) {
	for len(p) > 0 {
		if s.literal == inLiteral {
			k := min(s.octets, int64(len(p)))
			p = p[k:]
			if s.octets -= k; s.octets == 0 {
				s.literal = literalEnd
			}
			continue
		}
		s.next(p[0], began)
		p = p[1:]
	}
}

func (s *sent) next(c byte, began func(tag int64)) {
	switch {
	case c == '\n':
		if s.literal == closed {
			s.literal = inLiteral
			if s.octets == 0 {
				s.literal = literalEnd
			}
			s.n = -1
			return
		}
		s.literal, s.n = noLiteral, 0
		return
	case c == '\r':
		return
	case c == '{':
		s.literal, s.octets = digits, 0
	case s.literal == digits && '0' <= c && c <= '9' && s.octets < 1<<40:
		s.octets = s.octets*10 + int64(c-'0')
	case s.literal == digits && c == '+':
		s.literal = afterPlus
	case (s.literal == digits || s.literal == afterPlus) && c == '}':
		s.literal = closed
	default:
		s.literal = noLiteral
	}
	switch {
	case s.n < 0:
	case c == ' ':
		if n, ok := tagNumber(s.word[:s.n]); ok {
			began(n)
		}
		s.n = -1
	case s.n == len(s.word):
		s.n = -1
	default:
		s.word[s.n] = c
		s.n++
	}
}

// tagNumber returns n of imapclient's tag T<n>.
func tagNumber(tag []byte) (int64, bool) {
	if len(tag) < 2 || tag[0] != 'T' {
		return 0, false
	}
	return number(tag[1:])
}
