//go:build real

package real

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// sample is a message with something that mail programs have been known to
// damage.
type sample struct {
	name   string
	octets []byte
	// odd messages are no mail in the sense of RFC 5322. Programs that read the
	// header may mend it, so that only those that keep every octet get them.
	odd bool
	// Some IMAP servers cannot hold a message as it is: they refuse it, or
	// replace octets that IMAP has no way to send (RFC 3501 §4.3 of NUL).
	maildirOnly bool
}

// header is that of a plausible message, with LF.
func header(name string) string {
	id := sha256.Sum256([]byte(name))
	return fmt.Sprintf(`Return-Path: <sender@example.net>
Received: from mail.example.net (mail.example.net [192.0.2.1])
	by mx.example.org with ESMTPS; Tue, 14 Jan 2025 10:00:00 +0000
From: Sender <sender@example.net>
To: Receiver <receiver@example.org>
Subject: %s
Date: Tue, 14 Jan 2025 10:00:00 +0000
Message-ID: <%s@example.net>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
`, name, hex.EncodeToString(id[:8]))
}

// letter is a well-formed message with LF.
func letter(name, body string) []byte { return []byte(header(name) + "\n" + body) }

// crlf has each line end as CRLF; an unterminated last line stays so.
func crlf(message []byte) []byte {
	lf := bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
}

// removable is part of the subject of the messages that are removed when only
// some are.
const removable = "remove this one"

// corpus is one of each.
func corpus() []sample {
	long := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	lines := strings.Repeat("The quick brown fox jumps over the lazy dog, again and again, all day.\n", 45000)
	return []sample{
		{name: "lf", octets: letter("lf", "One line.\nAnother.\n")},
		{name: "crlf", octets: crlf(letter("crlf "+removable, "One line.\nAnother.\n"))},
		{name: "mixed", octets: append(letter("mixed line ends", "LF,\nthen CRLF,\r\n"), "and LF.\n"...)},
		{name: "unterminated", octets: letter("unterminated", "No line end here")},
		{name: "empty body", octets: letter("empty body", "")},
		{name: "dots", octets: letter("dots "+removable, ".\n..\n...\n.dot\n\n.\n. \n.")},
		{name: "dots crlf", octets: crlf(letter("dots crlf", ".\n..\n.dot\n.\n"))},
		{name: "8bit", octets: letter("8bit", "gr\xc3\xbc\xc3\x9f dich, \xe2\x82\xac 5\nlatin-1: \xe4\xf6\xfc\xdf\xff\x80\n")},
		{name: "From", octets: letter("From line", "From here on.\n\nFrom there too.\n>From all.\n")},
		{name: "blank end", octets: letter("blank lines at the end", "text\n\n\n\n")},
		{name: "RFC line", octets: letter("the longest line RFC 5322 allows", long[:998]+"\n")},
		{name: "long line", octets: letter("long line", long+"\nshort\n")},
		{name: "large", octets: letter("large "+removable, lines)},

		{name: "dot first", octets: []byte(".\nSubject: first octet is a dot\n\nbody\n"), odd: true},
		{name: "dot alone", octets: []byte("."), odd: true},
		{name: "dot line bare", octets: []byte("\n.\n+OK forged\n.\n"), odd: true},
		{name: "no header", octets: []byte("\nonly a body\n"), odd: true},
		{name: "header alone", octets: []byte("Subject: no blank line after the header\n"), odd: true},
		{name: "bare CR", octets: letter("bare CR", "a\rb\r\r\nc\rd\n"), odd: true, maildirOnly: true},
		{name: "NUL", octets: letter("NUL", "a\x00b\n\x00\n"), odd: true, maildirOnly: true},
		{name: "empty", octets: []byte{}, odd: true, maildirOnly: true},
	}
}

// octetsOf are the messages of all samples that pass every one of the tests.
func octetsOf(samples []sample, tests ...func(sample) bool) (messages [][]byte) {
next:
	for _, s := range samples {
		for _, passes := range tests {
			if !passes(s) {
				continue next
			}
		}
		messages = append(messages, s.octets)
	}
	return messages
}

func longestLine(message []byte) (longest int) {
	for line := range bytes.Lines(message) {
		longest = max(longest, len(bytes.TrimRight(line, "\r\n")))
	}
	return longest
}

// kept are the messages that stay when the removable ones are removed.
func kept(messages [][]byte) (rest [][]byte) {
	for _, m := range messages {
		if !bytes.Contains(m, []byte(removable)) {
			rest = append(rest, m)
		}
	}
	return rest
}
