package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestMessageIsDeterministic(t *testing.T) {
	box := mailbox{user: "ann", messages: 5, octets: 4096, sigma: 1}
	a, b := newGenerator(box), newGenerator(box)
	for i := range box.messages {
		if x, y := a.message(i), b.message(i); !bytes.Equal(x, y) {
			t.Fatalf("message %d differs:\n%s\n%s", i, x, y)
		}
	}
	box.user = "bob"
	if bytes.Equal(newGenerator(box).message(0), newGenerator(mailbox{user: "ann", messages: 5, octets: 4096, sigma: 1}).message(0)) {
		t.Error("two users have the same mail")
	}
}

func TestMessageForm(t *testing.T) {
	g := newGenerator(mailbox{user: "ann", octets: 20_000, sigma: 1})
	for i := range 200 {
		m := g.message(i)
		switch {
		case bytes.ContainsRune(m, '\r'):
			t.Fatalf("message %d has a CR", i)
		case !bytes.HasSuffix(m, []byte("\n")):
			t.Fatalf("message %d has no line end at its end", i)
		case bytes.Count(m, []byte("\n.")) < 2:
			t.Fatalf("message %d has no lines that begin with a dot", i)
		case !bytes.Contains(m, []byte("\n\n")):
			t.Fatalf("message %d has no body", i)
		}
		for _, line := range bytes.Split(m, []byte{'\n'}) {
			if len(line) > 78 {
				t.Fatalf("message %d has a line of %d octets: %s", i, len(line), line)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	const n = 20_000
	for _, sigma := range []float64{0, 1} {
		g := newGenerator(mailbox{user: "ann", octets: 10_000, sigma: sigma})
		var sum, logs, squares float64
		for range n {
			size := float64(g.size())
			sum += size
			logs += math.Log(size)
			squares += math.Log(size) * math.Log(size)
		}
		if mean := sum / n; math.Abs(mean/10_000-1) > 0.05 {
			t.Errorf("sigma %v: the mean is %.0f", sigma, mean)
		}
		if got := math.Sqrt(max(0, squares/n-logs/n*logs/n)); math.Abs(got-sigma) > 0.05 {
			t.Errorf("sigma %v: the logarithms deviate by %.3f", sigma, got)
		}
	}
	g := newGenerator(mailbox{user: "ann", octets: 50_000})
	if m := g.message(0); len(m) > 50_000 || len(m) < 50_000-80 {
		t.Errorf("a message of %d octets in place of 50,000", len(m))
	}
}

// The copies must not depend on each other's names: a server renames its own.
func TestCopiesAreApart(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	box := mailbox{user: "ann", messages: 30, octets: 1000, sigma: 1}
	if err := writeMail([]string{a, b}, []mailbox{box}, os.Getuid()); err != nil {
		t.Fatal(err)
	}
	have, err := readContents(filepath.Join(a, "ann"))
	if err != nil || len(have) != box.messages {
		t.Fatalf("%d different messages, %v", len(have), err)
	}
	if err := os.RemoveAll(filepath.Join(a, "ann")); err != nil {
		t.Fatal(err)
	}
	left, err := readContents(filepath.Join(b, "ann"))
	if err != nil || len(left) != box.messages {
		t.Fatalf("%d messages are left in the other copy, %v", len(left), err)
	}
}
