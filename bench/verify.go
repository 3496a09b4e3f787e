package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// parseStat reads "+OK messages octets ...".
func parseStat(status string) (messages int, octets int64, err error) {
	if _, err := fmt.Sscanf(status, "+OK %d %d", &messages, &octets); err != nil {
		return 0, 0, fmt.Errorf("STAT answers %q", status)
	}
	return messages, octets, nil
}

// parseSizes reads a LIST: messages 1 to n, one line each.
func parseSizes(list []byte) ([]int64, error) {
	var sizes []int64
	err := eachLine("LIST", list, func(value []byte) error {
		size, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("size %q", value)
		}
		sizes = append(sizes, size)
		return nil
	})
	return sizes, err
}

// parseUIDs reads a UIDL: as LIST, with well-formed, distinct unique-ids
// (RFC 1939 §7).
func parseUIDs(list []byte) ([]string, error) {
	var uids []string
	seen := make(map[string]bool, bytes.Count(list, []byte{'\n'}))
	err := eachLine("UIDL", list, func(value []byte) error {
		uid := string(value)
		if len(uid) < 1 || len(uid) > 70 || strings.ContainsFunc(uid, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
			return fmt.Errorf("unique-id %q", uid)
		}
		if seen[uid] {
			return fmt.Errorf("unique-id %q again", uid)
		}
		seen[uid] = true
		uids = append(uids, uid)
		return nil
	})
	return uids, err
}

// eachLine takes a multi-line reply apart and checks its message numbers.
func eachLine(command string, list []byte, value func([]byte) error) error {
	for n := 1; ; n++ {
		line, rest, found := bytes.Cut(list, []byte("\r\n"))
		if !found {
			return fmt.Errorf("%s: no line end in %.80q", command, list)
		}
		if string(line) == "." {
			if len(rest) > 0 {
				return fmt.Errorf("%s: %.80q behind the final dot", command, rest)
			}
			return nil
		}
		number, v, _ := bytes.Cut(line, []byte{' '})
		if string(number) != strconv.Itoa(n) {
			return fmt.Errorf("%s: line %.80q in place of message %d", command, line, n)
		}
		if err := value(v); err != nil {
			return fmt.Errorf("%s %d: %w", command, n, err)
		}
		list = rest
	}
}

// checkListing holds the replies of one session against each other and against
// the number of messages that there are.
func checkListing(stat string, list, uidl []byte, want int) error {
	messages, octets, err := parseStat(stat)
	if err != nil {
		return err
	}
	sizes, err := parseSizes(list)
	if err != nil {
		return err
	}
	uids, err := parseUIDs(uidl)
	if err != nil {
		return err
	}
	if messages != want || len(sizes) != want || len(uids) != want {
		return fmt.Errorf("STAT has %d messages, LIST %d, UIDL %d; there are %d", messages, len(sizes), len(uids), want)
	}
	var sum int64
	for _, size := range sizes {
		sum += size
	}
	if sum != octets {
		return fmt.Errorf("the sizes of LIST make %d octets, STAT says %d", sum, octets)
	}
	return nil
}

// contents tells which messages a Maildir has, by hashes of their octets with
// CRLF line ends.
type contents map[[sha256.Size]byte]int

func readContents(maildir string) (contents, error) {
	have := make(contents)
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(maildir, sub))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(maildir, sub, e.Name()))
			if err != nil {
				return nil, err
			}
			have[sha256.Sum256(crlf(text))]++
		}
	}
	return have, nil
}

// crlf is the network's form of a message that lines with LF make up.
func crlf(text []byte) []byte { return bytes.ReplaceAll(text, []byte{'\n'}, []byte("\r\n")) }

// take crosses a message off that was received.
func (c contents) take(sum [sha256.Size]byte) error {
	if c[sum] == 0 {
		return fmt.Errorf("not the octets of any message, or of one that came already")
	}
	c[sum]--
	return nil
}

// checkDownload gets the first n messages of a user and holds each against the
// listing and the Maildir.
func checkDownload(c *client, maildir string, n int) error {
	list, err := c.listing("LIST", nil)
	if err != nil {
		return err
	}
	sizes, err := parseSizes(list)
	if err != nil {
		return err
	}
	have, err := readContents(maildir)
	if err != nil {
		return err
	}
	if len(sizes) < n {
		return fmt.Errorf("LIST has %d messages, not %d", len(sizes), n)
	}
	h := sha256.New()
	for i := range n {
		h.Reset()
		if err := c.send(retrCommand(nil, i+1)); err != nil {
			return err
		}
		octets, _, err := c.message(h)
		if err != nil {
			return fmt.Errorf("RETR %d: %w", i+1, err)
		}
		if octets != sizes[i] {
			return wrongSize(i, octets, sizes[i])
		}
		if err := have.take([sha256.Size]byte(h.Sum(nil))); err != nil {
			return fmt.Errorf("RETR %d: %w", i+1, err)
		}
	}
	return nil
}

// wrongSize is the failure of message i, counted from 0.
func wrongSize(i int, octets, listed int64) error {
	return fmt.Errorf("RETR %d delivered %d octets, LIST said %d", i+1, octets, listed)
}
