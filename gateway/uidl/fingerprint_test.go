package uidl

import (
	"crypto/md5"
	"fmt"
	"strings"
	"testing"
)

func md5Of(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }

func headerOf(text string, piece int) *Header {
	h := new(Header)
	h.Reset()
	for len(text) > 0 {
		n := min(piece, len(text))
		h.Write([]byte(text[:n]))
		text = text[n:]
	}
	return h
}

// TestFingerprint has the same message as servers may give it.
func TestFingerprint(t *testing.T) {
	want := headerOf("From: a\r\nMessage-ID: <1@example.org>\r\n\r\nBody", 1000).Fingerprint()
	if want != OfMessageID("<1@example.org>") {
		t.Error("it is not that of its Message-ID")
	}
	for _, same := range []string{
		"Message-ID: <1@example.org>\nFrom: b\n\n",
		"X: y\r\nmessage-id:<1@example.org>\r\n\r\n",
		"Message-Id:\r\n <1@example.org>\r\n\r\n",
		"Message-ID: <1@example.org> \r\nMessage-ID: <2@example.org>\r\n\r\n",
		"Message-ID : <1@example.org>\r\n", // without an end
	} {
		for _, piece := range []int{1, 7, 1000} {
			if got := headerOf(same, piece).Fingerprint(); got != want && !strings.HasSuffix(same, ">\r\n") || got != want {
				t.Errorf("%q in pieces of %d is another", same, piece)
			}
		}
	}
	for _, other := range []string{
		"Message-ID: <2@example.org>\r\n\r\n",
		"X-Message-ID: <1@example.org>\r\n\r\n",
		"X: y\r\n Message-ID: <1@example.org>\r\n\r\n",
		"From: a\r\n\r\nMessage-ID: <1@example.org>\r\n\r\n",
		"",
	} {
		if got := headerOf(other, 5).Fingerprint(); got == want {
			t.Errorf("%q is the same", other)
		}
	}
}

func TestFingerprintWithoutMessageID(t *testing.T) {
	a := headerOf("Date: today\r\nFrom: a\r\nSubject: folded\r\n here\r\n\r\n", 1000)
	b := headerOf("Subject: folded here\nDate: today\nFrom: a\n\n", 3)
	c := headerOf("Subject: folded here\nDate: today\nFrom: b\n\n", 3)
	if a.Fingerprint() != b.Fingerprint() || a.Fingerprint() == c.Fingerprint() {
		t.Errorf("%x, %x, %x", a.Fingerprint(), b.Fingerprint(), c.Fingerprint())
	}
	if a.MessageID() != "" || ofReference(a.Reference()) != a.Fingerprint() {
		t.Errorf("%q", a.Reference())
	}
	d := headerOf("Message-ID: ~7\n\n", 3)
	if ofReference(d.Reference()) != d.Fingerprint() {
		t.Errorf("%q", d.Reference())
	}
}

func TestHeaderIsBounded(t *testing.T) {
	h := headerOf("Subject: "+strings.Repeat("a", 1<<20)+"\n\n", 1000)
	if !h.Done() || len(h.line) > maxValue || len(h.values[4]) > maxValue {
		t.Errorf("%v, %d, %d", h.Done(), len(h.line), len(h.values[4]))
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("Message-ID: <1>\r\n x\r\nDate:\n\nbody", 3)
	f.Fuzz(func(t *testing.T, text string, piece int) {
		whole := headerOf(text, max(1, len(text)))
		if parts := headerOf(text, max(1, piece)); parts.Fingerprint() != whole.Fingerprint() || parts.Done() != whole.Done() {
			t.Errorf("%q in pieces of %d is another", text, piece)
		}
		if ofReference(whole.Reference()) != whole.Fingerprint() {
			t.Errorf("reference %q is another's", whole.Reference())
		}
	})
}
