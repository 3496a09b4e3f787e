package link

import (
	"bytes"

	"github.com/emersion/go-imap/v2"
)

// status is the part of a status response (RFC 9051 §7.1) behind its tag.
type status struct {
	typ  []byte // OK, NO, BAD, BYE or PREAUTH, in any case
	code []byte // the response code's name in upper case, or empty
	data []byte // what stands behind that name
	text []byte
}

// parseStatus reads s, "OK [CODE data] text", and puts it right for imapclient,
// in place: the code's name in upper case, since it overlooks [uidvalidity 9];
// capabilities as well, with no space behind the last; and no bracket where there
// is no code, since it would look for the closing one on the lines that follow.
func parseStatus(s []byte) status {
	var st status
	st.typ, st.text = word(s)
	if len(st.text) == 0 || st.text[0] != '[' {
		return st
	}
	end := bytes.IndexByte(st.text, ']')
	n := 1
	for n < end && st.text[n] > ' ' && st.text[n] < 0x7f && bytes.IndexByte([]byte(`(){%*"\`), st.text[n]) < 0 {
		n++
	}
	if end < 0 || n == 1 || n < end && st.text[n] != ' ' {
		st.text[0] = '('
		return st
	}
	st.code = upperCase(st.text[1:n])
	st.data = bytes.TrimSpace(st.text[n:end])
	if string(st.code) == "CAPABILITY" {
		last := len(bytes.TrimRight(upperCase(st.text[n:end]), " ")) + n
		st.text[end], st.text[last] = st.text[last], st.text[end] // "A ] text" becomes "A]  text"
		end = last
	}
	st.text = bytes.TrimPrefix(st.text[end+1:], []byte{' '})
	return st
}

// completion is the end of a command: nil for OK, *imap.Error for NO and BAD.
// ok is false when the response is none of these.
func (c *Conn) completion(st status) (err error, ok bool) {
	switch {
	case is(st.typ, "OK"):
		return nil, true
	case is(st.typ, "NO"), is(st.typ, "BAD"):
		return &imap.Error{
			Type: imap.StatusResponseType(upperCase(bytes.Clone(st.typ))),
			Code: imap.ResponseCode(c.told(string(st.code))),
			Text: c.told(string(st.text)),
		}, true
	}
	return nil, false
}

func upperCase(s []byte) []byte {
	for i, c := range s {
		s[i] = upper(c)
	}
	return s
}
