package maildroptest

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	"pop3gw/gateway"
	"pop3gw/gateway/wire"
)

func open(t *testing.T, f Fixture, account gateway.Account) gateway.Maildrop {
	t.Helper()
	d, err := f.Adapter.Open(t.Context(), account)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return d
}

func closeMaildrop(t *testing.T, d gateway.Maildrop) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// retrieve reads message i as it is stored, or what the adapter delivers for
// this many lines of it.
func retrieve(t *testing.T, d gateway.Maildrop, i, lines int) []byte {
	t.Helper()
	r, err := d.Retrieve(t.Context(), i, lines)
	if err != nil {
		t.Fatalf("Retrieve of message %d, lines %d: %v", i, lines, err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading message %d, lines %d: %v", i, lines, err)
	}
	if err := r.Close(); err != nil {
		t.Fatalf("closing message %d, lines %d: %v", i, lines, err)
	}
	return raw
}

// sent returns raw as RETR sends it, less the byte-stuffing.
func sent(t *testing.T, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	octets, err := wire.Body{Lines: -1}.Copy(&out, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	body := out.Bytes()
	plain := make([]byte, 0, len(body))
	for line := range bytes.SplitAfterSeq(body, []byte("\r\n")) {
		plain = append(plain, bytes.TrimPrefix(line, []byte("."))...)
	}
	if int64(len(plain)) != octets {
		t.Fatalf("RETR sends %d octets less byte-stuffing and counts %d", len(plain), octets)
	}
	return plain
}

// uids returns the UIDs of d, having checked that they are legal and distinct.
func uids(t *testing.T, d gateway.Maildrop) []string {
	t.Helper()
	list := make([]string, d.Len())
	seen := make(map[string]int, d.Len())
	for i := range list {
		const before = "before "
		all := string(d.AppendUID([]byte(before), i))
		if len(all) < len(before) || all[:len(before)] != before {
			t.Fatalf("AppendUID(%d) changed what was there: %q", i, all)
		}
		uid := all[len(before):]
		if err := checkUID(uid); err != nil {
			t.Errorf("UID of message %d: %v", i, err)
		}
		if first, ok := seen[uid]; ok {
			t.Errorf("messages %d and %d share the UID %q", first, i, uid)
		}
		seen[uid] = i
		list[i] = uid
	}
	return list
}

// checkUID tells what is wrong with the form of a unique-id (RFC 1939 §7).
func checkUID(uid string) error {
	if len(uid) < 1 || len(uid) > 70 {
		return fmt.Errorf("%q has %d octets; 1 to 70 are allowed", uid, len(uid))
	}
	for i := range len(uid) {
		if uid[i] < 0x21 || uid[i] > 0x7e {
			return fmt.Errorf("%q has octet %#x; 0x21 to 0x7e are allowed", uid, uid[i])
		}
	}
	return nil
}

// wantRemoved deletes the marked messages and checks that Delete reports each of
// them once, with an error if and only if remain, those that cannot be removed,
// are not empty.
func wantRemoved(t *testing.T, d gateway.Maildrop, marked, remain []int) {
	t.Helper()
	var got []int
	err := d.Delete(t.Context(), marked, func(i int) { got = append(got, i) })
	if (err != nil) != (len(remain) > 0) {
		t.Errorf("Delete of %v: %v; %d cannot be removed", marked, err, len(remain))
	}
	slices.Sort(got)
	want := slices.DeleteFunc(slices.Clone(marked), func(i int) bool { return slices.Contains(remain, i) })
	if !slices.Equal(got, want) {
		t.Errorf("Delete of %v reported %v as removed, want %v", marked, got, want)
	}
}

// wantStored checks that the account's maildrop holds want, in any order.
func wantStored(t *testing.T, f Fixture, account gateway.Account, want [][]byte) {
	t.Helper()
	got := f.List(t, account)
	plain := func(messages [][]byte) []string {
		list := make([]string, len(messages))
		for i, message := range messages {
			if f.Exact {
				list[i] = string(message)
			} else {
				list[i] = string(sent(t, message))
			}
		}
		slices.Sort(list)
		return list
	}
	if g, w := plain(got), plain(want); !slices.Equal(g, w) {
		t.Errorf("%d messages are stored, want these %d:\n%s\ngot\n%s", len(g), len(w), excerpts(w), excerpts(g))
	}
}

// excerpt quotes the start of raw, with its length.
func excerpt(raw []byte) string {
	if len(raw) > 120 {
		return fmt.Sprintf("%q... (%d octets)", raw[:120], len(raw))
	}
	return fmt.Sprintf("%q", raw)
}

func excerpts(messages []string) string {
	var b bytes.Buffer
	for i, message := range messages {
		if i == 10 {
			fmt.Fprintf(&b, "\t...\n")
			break
		}
		fmt.Fprintf(&b, "\t%s\n", excerpt([]byte(message)))
	}
	return b.String()
}
