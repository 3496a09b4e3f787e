package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBodyCopy(t *testing.T) {
	all := Body{Lines: -1}
	tests := []struct {
		name     string
		body     Body
		in, want string
		stuffed  int64
	}{
		{"CRLF", all, "a: b\r\n\r\nc\r\n", "a: b\r\n\r\nc\r\n", 0},
		{"LF", all, "a: b\n\nc\n", "a: b\r\n\r\nc\r\n", 0},
		{"mixed", all, "a: b\r\n\nc\r\nd\n", "a: b\r\n\r\nc\r\nd\r\n", 0},
		{"no final line end", all, "a\r\nb", "a\r\nb\r\n", 0},
		{"final CR", all, "a\r\nb\r", "a\r\nb\r\n", 0},
		{"empty", all, "", "", 0},
		{"one LF", all, "\n", "\r\n", 0},
		{"one CR", all, "\r", "\r\n", 0},
		{"bare CR", all, "a\rb\r\n", "a\rb\r\n", 0},
		{"CR CR LF", all, "a\r\r\nb\r\n", "a\r\r\nb\r\n", 0},
		{"NUL and 8-bit", all, "a\x00\xffb\n", "a\x00\xffb\r\n", 0},
		{"first octet a dot", all, ".\n+OK forged\n", "..\r\n+OK forged\r\n", 1},
		{"only a dot", all, ".", "..\r\n", 1},
		{"dot behind a bare LF", all, "a\n.\nb\n", "a\r\n..\r\nb\r\n", 1},
		{"dots", all, "..\r\n...x\r\n", "...\r\n....x\r\n", 2},
		{"dot behind a bare CR", all, "a\r.\r\nb\r\n", "a\r.\r\nb\r\n", 0},
		{"NUL replaced", Body{Lines: -1, ReplaceNUL: true}, "\x00a\x00\x00\n\x00", "\x80a\x80\x80\r\n\x80\r\n", 0},
		{"header never ends", Body{Lines: -1, EndHeader: true}, "a: b\n", "a: b\r\n\r\n", 0},
		{"header without line end", Body{Lines: -1, EndHeader: true}, "a: b", "a: b\r\n\r\n", 0},
		{"empty with EndHeader", Body{Lines: -1, EndHeader: true}, "", "\r\n", 0},
		{"header ends", Body{Lines: -1, EndHeader: true}, "a: b\n\nc\n", "a: b\r\n\r\nc\r\n", 0},
		{"header ends in a CR", Body{Lines: -1, EndHeader: true}, "a: b\n\r", "a: b\r\n\r\n", 0},
		{"TOP 0", Body{}, "a: b\n\nc\nd\n", "a: b\r\n\r\n", 0},
		{"TOP 1", Body{Lines: 1}, "a: b\r\n\r\nc\r\nd\r\n", "a: b\r\n\r\nc\r\n", 0},
		{"TOP 2 of 2", Body{Lines: 2}, "a: b\n\nc\nd\n", "a: b\r\n\r\nc\r\nd\r\n", 0},
		{"TOP 9 of 2", Body{Lines: 9}, "a: b\n\nc\nd", "a: b\r\n\r\nc\r\nd\r\n", 0},
		{"TOP 1 of a dot", Body{Lines: 1}, "a: b\n\n.\nd", "a: b\r\n\r\n..\r\n", 1},
		{"TOP 0 without body", Body{}, "a: b\nc: d\n", "a: b\r\nc: d\r\n", 0},
		{"TOP 0 of CR CR LF", Body{}, "a: b\r\n\r\r\nc\r\n\r\nd\r\n", "a: b\r\n\r\r\nc\r\n\r\n", 0},
		{"TOP 1 counts empty lines", Body{Lines: 1}, "a: b\n\n\n\nc", "a: b\r\n\r\n\r\n", 0},
		{"TOP 0 of a message that begins with an empty line", Body{}, "\nx\n", "\r\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in)), iotest.DataErrReader(strings.NewReader(tt.in))} {
				var out bytes.Buffer
				octets, err := tt.body.Copy(&out, r)
				if err != nil || out.String() != tt.want || octets != int64(len(tt.want))-tt.stuffed {
					t.Errorf("%T: got %q, %d octets, %v; want %q, %d octets", r, out.String(), octets, err, tt.want, int64(len(tt.want))-tt.stuffed)
				}
			}
		})
	}
}

func TestBodyCopyStopsReading(t *testing.T) {
	r := io.MultiReader(strings.NewReader("a: b\n\nc\n"), iotest.ErrReader(errors.New("read on")))
	if _, err := (Body{Lines: 1}).Copy(io.Discard, r); err != nil {
		t.Errorf("TOP read behind its last line: %v", err)
	}
}

func TestBodyCopyErrors(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader("a: b\n\nhalf"), iotest.ErrReader(broken))
	var out bytes.Buffer
	if _, err := (Body{Lines: -1}).Copy(&out, r); err != broken {
		t.Errorf("a failed read: got %v", err)
	}
	if got := out.String(); got != "a: b\r\n\r\nhalf" {
		t.Errorf("a failed read completed the line: %q", got)
	}
	lost := fmt.Errorf("reading from upstream: %w", io.EOF)
	if _, err := (Body{Lines: -1}).Copy(io.Discard, iotest.ErrReader(lost)); err != lost {
		t.Errorf("a lost upstream counts as the end of the message: %v", err)
	}
	pr, pw := io.Pipe()
	pr.CloseWithError(broken)
	if _, err := (Body{Lines: -1}).Copy(pw, strings.NewReader("x")); err != broken {
		t.Errorf("a failed write: got %v", err)
	}
}

// A reply is complete at its first lone dot, whatever is stored.
func FuzzBody(f *testing.F) {
	for _, s := range []string{"", ".", "\n.\n", "a: b\r\n\r\n..\r\n", "a\r", "\r.\n", "x\n.\r\n+OK\r\n"} {
		f.Add([]byte(s), -1, 3)
		f.Add([]byte(s), 1, 1)
	}
	f.Fuzz(func(t *testing.T, msg []byte, lines, chunk int) {
		if lines < -1 || lines > 1<<20 {
			return
		}
		var r io.Reader = bytes.NewReader(msg)
		if chunk > 0 {
			r = &chunkReader{r, chunk}
		}
		var out bytes.Buffer
		octets, err := Body{Lines: lines}.Copy(&out, r)
		if err != nil {
			t.Fatal(err)
		}
		sent := out.Bytes()
		if len(sent) > 0 && !bytes.HasSuffix(sent, []byte("\r\n")) {
			t.Fatalf("%q does not end in CRLF", sent)
		}
		var stuffed int64
		var plain []byte
		for line := range bytes.SplitAfterSeq(sent, []byte("\n")) {
			if bytes.HasPrefix(line, []byte(".")) {
				if !bytes.HasPrefix(line, []byte("..")) {
					t.Fatalf("%q has a line that begins with one dot", sent)
				}
				stuffed++
				line = line[1:]
			}
			if len(line) > 0 && !bytes.HasSuffix(line, []byte("\r\n")) {
				t.Fatalf("%q has a bare LF", sent)
			}
			plain = append(plain, line...)
		}
		if octets != int64(len(sent))-stuffed {
			t.Fatalf("counted %d octets, sent %d", octets, int64(len(sent))-stuffed)
		}
		if lines < 0 {
			if n, err := Count(bytes.NewReader(msg)); n != octets || err != nil {
				t.Fatalf("Count says %d, %v; sent %d", n, err, octets)
			}
			want := bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))
			want = bytes.ReplaceAll(want, []byte("\n"), []byte("\r\n"))
			if len(want) > 0 && !bytes.HasSuffix(want, []byte("\r\n")) {
				want = append(bytes.TrimSuffix(want, []byte("\r")), "\r\n"...)
			}
			if !bytes.Equal(plain, want) {
				t.Fatalf("sent %q for %q, want %q", plain, msg, want)
			}
		}
		dot := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(sent), strings.NewReader(".\r\n+OK next\r\n")))).DotReader()
		got, err := io.ReadAll(dot)
		if err != nil {
			t.Fatalf("DotReader: %v", err)
		}
		if want := bytes.ReplaceAll(plain, []byte("\r\n"), []byte("\n")); !bytes.Equal(got, want) {
			t.Fatalf("DotReader gives %q, want %q", got, want)
		}
	})
}

// chunkReader reads n octets at a time.
type chunkReader struct {
	r io.Reader
	n int
}

func (c *chunkReader) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.n)]) }

func BenchmarkCopy(b *testing.B) {
	for name, line := range map[string]string{"LF": strings.Repeat("x", 75) + "\n", "CRLF": strings.Repeat("x", 75) + "\r\n"} {
		msg := []byte(strings.Repeat(line, 1000))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				Body{Lines: -1}.Copy(io.Discard, bytes.NewReader(msg))
			}
		})
	}
}
