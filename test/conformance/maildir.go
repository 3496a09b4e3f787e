package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Maildir is a Store on disk. The server under test reads the same folder.
type Maildir struct {
	Path  string
	Owner int // user and group of the files, where the tests run as root

	delivered int // in all, so that no name is used twice
}

// NewMaildir makes a Maildir at path, owned by owner, or takes the one there.
func NewMaildir(path string, owner int) (*Maildir, error) {
	m := &Maildir{Path: path, Owner: owner}
	for _, dir := range []string{path, m.folder("tmp"), m.folder("new"), m.folder("cur")} {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := m.own(dir); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Maildir) folder(name string) string { return filepath.Join(m.Path, name) }

func (m *Maildir) own(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, m.Owner, m.Owner)
}

// Fill implements Store. Index files that a server keeps beside the mail stay.
func (m *Maildir) Fill(messages [][]byte) error {
	files, err := m.files()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	for _, message := range messages {
		if err := m.Add(message); err != nil {
			return err
		}
	}
	return nil
}

// Add implements Store. Every third message lies in cur, as if another program
// had seen it without reading it.
func (m *Maildir) Add(message []byte) error {
	m.delivered++
	at := time.Date(2026, 1, 1, 0, 0, m.delivered, 0, time.UTC)
	name := fmt.Sprintf("%d.M%06dP1.conformance", at.Unix(), m.delivered)
	tmp := filepath.Join(m.folder("tmp"), name)
	final := filepath.Join(m.folder("new"), name)
	if m.delivered%3 == 0 {
		final = filepath.Join(m.folder("cur"), name+":2,")
	}
	if err := os.WriteFile(tmp, message, 0o600); err != nil {
		return err
	}
	if err := m.own(tmp); err != nil {
		return err
	}
	if err := os.Chtimes(tmp, at, at); err != nil {
		return err
	}
	return os.Rename(tmp, final)
}

// files returns the messages' files in the order of delivery.
func (m *Maildir) files() ([]string, error) {
	var files []string
	for _, dir := range []string{"new", "cur"} {
		entries, err := os.ReadDir(m.folder(dir))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			files = append(files, filepath.Join(m.folder(dir), e.Name()))
		}
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return files, nil
}

func (m *Maildir) file(i int) (string, error) {
	files, err := m.files()
	if err != nil {
		return "", err
	}
	if i >= len(files) {
		return "", fmt.Errorf("%s has %d messages, none with index %d", m.Path, len(files), i)
	}
	return files[i], nil
}

// Remove implements Store.
func (m *Maildir) Remove(i int) error {
	file, err := m.file(i)
	if err != nil {
		return err
	}
	return os.Remove(file)
}

// MarkSeen implements Store: the file gets another name.
func (m *Maildir) MarkSeen(i int) error {
	file, err := m.file(i)
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(filepath.Base(file), ":")
	return os.Rename(file, filepath.Join(m.folder("cur"), name+":2,S"))
}

// Messages implements Store.
func (m *Maildir) Messages() ([][]byte, error) {
	files, err := m.files()
	if err != nil {
		return nil, err
	}
	messages := make([][]byte, len(files))
	for i, file := range files {
		if messages[i], err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// Seen implements Store.
func (m *Maildir) Seen() (int, error) {
	files, err := m.files()
	seen := 0
	for _, file := range files {
		if _, flags, _ := strings.Cut(file, ":2,"); strings.Contains(flags, "S") {
			seen++
		}
	}
	return seen, err
}
