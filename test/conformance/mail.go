package conformance

import (
	"bytes"
	"fmt"
	"strings"
)

// sample is a stored message and what is peculiar about it.
type sample struct {
	name string
	mail string
}

// onWire is a stored message as RETR should send it, before byte-stuffing:
// every line ends in CRLF, the last one too. CR elsewhere stays.
func onWire(stored string) string {
	var out strings.Builder
	for line := range strings.Lines(stored) {
		out.WriteString(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
		if !strings.HasSuffix(line, "\n") && strings.HasSuffix(line, "\r") {
			out.WriteByte('\r') // a last CR without LF is no line end
		}
		out.WriteString("\r\n")
	}
	return out.String()
}

// terminated says that a message's last line has its end. The size of others
// depends on a line end that is not stored.
func terminated(stored string) bool { return strings.HasSuffix(stored, "\n") }

// plain reduces a message to what any server should keep: lines without CR at
// their ends, no difference between NUL and its usual replacement.
func plain(text string) string {
	text = strings.ReplaceAll(text, "\x00", "\x80")
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimRight(line, "\r\n"))
		out.WriteByte('\n')
	}
	return strings.TrimRight(out.String(), "\n")
}

// headerOf is the part of a message on the wire that TOP n 0 shows: the header
// and the empty line behind it. ok is false where there is no empty line.
func headerOf(wire string) (header string, ok bool) {
	if strings.HasPrefix(wire, "\r\n") {
		return "\r\n", true
	}
	i := strings.Index(wire, "\r\n\r\n")
	if i < 0 {
		return wire, false
	}
	return wire[:i+4], true
}

// note is an ordinary message of a few lines, distinct for each n.
func note(n int) string {
	return fmt.Sprintf("From: sender@example.org\r\nTo: reader@example.net\r\nSubject: note %d\r\n"+
		"Message-ID: <note.%d@example.org>\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\n"+
		"This is note %d.\r\n%s\r\nRegards\r\n", n, n, n, strings.Repeat("=", n%70))
}

// notes are n ordinary messages, all of them different.
func notes(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = []byte(note(i + 1))
	}
	return all
}

const head = "From: a@example.org\nSubject: test\n"

// crlf turns LF ends into CRLF.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// forgery is what a sender could write so that a client reads the mail as the
// server's replies.
const forgery = "+OK 99 9999\n+OK you have been served\n-ERR [AUTH] send your password again\n.\n+OK 1 1\n"

// samples are messages of every form that mail stores hold.
func samples() []sample {
	boundary := func(size int, tail string) string {
		h := head + "\n"
		return h + strings.Repeat("x", size-len(h)) + tail
	}
	return []sample{
		{"CRLF ends", crlf(head + "\nbody\nmore\n")},
		{"LF ends", head + "\nbody\nmore\n"},
		{"mixed ends", "From: a@example.org\r\nSubject: mixed\n\r\none\ntwo\r\nthree\n"},
		{"LF header, CRLF body", head + "\n" + crlf("one\ntwo\n")},
		{"no final LF", head + "\nbody\nlast"},
		{"CRLF ends, no final CRLF", crlf(head+"\nbody\n") + "last"},
		{"no octets", ""},
		{"one LF", "\n"},
		{"one CRLF", "\r\n"},
		{"header without empty line", head},
		{"header without line end", "Subject: only"},
		{"header and empty line", head + "\n"},
		{"empty header", "\nbody without a header\n"},
		{"text without a header", "this is no header\nnor is this\n"},
		{"space before the header", " leading\nSubject: x\n\nbody\n"},
		{"empty lines at the end", head + "\nbody\n\n\n\n"},
		{"empty lines only", "\n\n\n\n"},
		{"line of 1 MB", head + "\n" + strings.Repeat("a", 1<<20) + "\nend\n"},
		{"line of 1 MB of dots", head + "\n" + strings.Repeat(".", 1<<20) + "\nend\n"},
		{"header line of 100 KB", "From: a@example.org\nX-Long: " + strings.Repeat("h", 100<<10) + "\nSubject: x\n\nbody\n"},
		{"1000 header lines", strings.Repeat("X-Line: value\n", 1000) + "\nbody\n"},
		{"2 MB in short lines", head + "\n" + strings.Repeat("0123456789abcdef0123456789abcdef\n", 1<<16)},
		{"bare CR", head + "\none\rtwo\rthree\nfour\r\rfive\n"},
		{"bare CR in the header", "From: a@example.org\nSubject: one\rtwo\n\nbody\n"},
		{"final CR", head + "\nbody\r"},
		{"CR CR LF", head + "\none\r\r\ntwo\r\r\r\nthree\n"},
		{"NUL", head + "\nbefore\x00after\n\x00\nend\n"},
		{"control characters", head + "\n\x01\x02\x07\x08\x0b\x0c\x1b[2J\x7f\nend\n"},
		{"8-bit", head + "\ncaf\xe9 \xff\xfe \x80\n"},
		{"8-bit header", "From: caf\xe9@example.org\nSubject: \xe4\xf6\xfc\n\nbody\n"},
		{"UTF-8", "From: jos\u00e9@example.org\nSubject: \u00e9t\u00e9\n\n\u4f60\u597d \U0001f4ec\n"},
		{"spaces at line ends", head + "\none \ntwo\t\n \n\t\nend  \n"},
		{"dot lines", head + "\none\n.\ntwo\n..\nthree\n...\n.four\n. five\n"},
		{"dot lines with CRLF", crlf(head + "\none\n.\ntwo\n..\nthree\n...\n.four\n. five\n")},
		{"dot line first in the body", head + "\n.\nafter\n"},
		{"dot line last", head + "\nbody\n.\n"},
		{"dot line last with CRLF", crlf(head + "\nbody\n.\n")},
		{"dot last, no final LF", head + "\nbody\n."},
		{"1000 dot lines", crlf(head + "\n" + strings.Repeat(".\n", 1000))},
		{"1000 dot lines with LF", head + "\n" + strings.Repeat(".\n", 1000)},
		{"dot behind a bare CR", head + "\none\r.\r\ntwo\r.two\n"},
		{"dot behind CR CR LF", head + "\none\r\r\n.\r\r\n.\r\ntwo\n"},
		{"first octet a dot", ".hidden: x\nSubject: dot\n\nbody\n"},
		{"first line a dot", ".\nSubject: dot\n\nbody\n"},
		{"first line a dot, CRLF", crlf(".\nSubject: dot\n\nbody\n")},
		{"a dot alone", "."},
		{"a dot and LF", ".\n"},
		{"a dot and CRLF", ".\r\n"},
		{"two dots and CRLF", "..\r\n"},
		{"CR at 4096", boundary(4095, "\r\n.\r\nend\n")},
		{"LF at 4096", boundary(4095, "\n.\nend\n")},
		{"dot at 4096", boundary(4094, "\r\n.\r\nend\n")},
		{"CR at 8192", boundary(8191, "\r\n.\r\nend\n")},
		{"dot at 32768", boundary(32766, "\r\n.\r\nend\n")},
		{"CR at 65536", boundary(65535, "\r\n.\r\nend\n")},
		{"dot at 65536", boundary(65534, "\r\n.\r\nend\n")},
		{"MIME parts", crlf("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\nintro\n--b\n\npart\n--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\nAAECAwQ=\n--b--\n")},
		{"mbox From line", "From a@example.org Mon Jan  5 10:00:00 2026\n" + head + "\nbody\nFrom here on\n>From there\n"},
	}
}

// same says that two messages on the wire hold the same text.
func same(a, b []byte) bool { return bytes.Equal(a, b) || plain(string(a)) == plain(string(b)) }
