package account

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Bounds of a passwd-file, in octets, and of what is said about one.
const (
	maxPasswdFile = 64 << 20
	maxPasswdLine = 4096
	maxUsers      = 500_000
	maxKinds      = 64 // of hashes, for stand-ins
	maxComplaints = 20
)

// passwdFile holds the hashes of a route's users as Dovecot's passwd-file does:
// lines of "name:{SCHEME}hash:uid:gid:gecos:home:shell:extra fields", of which
// the name and the hash are used. It is read again when it changes, and safe
// for concurrent use.
type passwdFile struct {
	path  string
	rules nameRules
	log   *slog.Logger

	mu     sync.Mutex
	info   fs.FileInfo // of what was read; nil before that
	readAt time.Time
	table  *passwdTable
}

// passwdTable is what a passwd-file says. It does not change.
type passwdTable struct {
	users      map[string]passwdEntry // by login name in its normal form
	kinds      []*secret              // one of each kind
	plain      bool                   // one at least is stored as it is
	complaints []error                // what is wrong with which line, the first of them
	further    int                    // number of complaints that were left out
}

// passwdEntry is a line's hash, as text to be small. It was parsed once.
type passwdEntry struct {
	hash string // "" where the user cannot log in
	err  error  // why the line cannot be used; nil where the user is locked out
}

// current returns what the file says now. An error says why it cannot be read.
func (p *passwdFile) current() (*passwdTable, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(p.path)
	if err != nil {
		return nil, fmt.Errorf("reading passwd_file: %w", err)
	}
	if p.unchanged(info) {
		return p.table, nil
	}
	info, table, err := p.read()
	if err != nil {
		return nil, fmt.Errorf("reading passwd_file %s: %w", p.path, err)
	}
	p.info, p.table = info, table
	p.complain()
	return table, nil
}

// unchanged reports whether info is that of the file as it was read. A file
// written at most two seconds before it was read may have been written again
// without a later time of modification, some file systems counting in such
// steps.
func (p *passwdFile) unchanged(info fs.FileInfo) bool {
	return p.info != nil && os.SameFile(p.info, info) &&
		p.info.Size() == info.Size() && p.info.ModTime().Equal(info.ModTime()) &&
		p.readAt.Sub(info.ModTime()).Abs() > 2*time.Second
}

// read parses the file. The info is of the very file that was read.
func (p *passwdFile) read() (fs.FileInfo, *passwdTable, error) {
	// Looked at first, since opening a FIFO would wait for its writer.
	if info, err := os.Stat(p.path); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a regular file")
	}
	p.readAt = time.Now()
	f, err := os.Open(p.path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > maxPasswdFile {
		return nil, nil, errors.New("it is larger than 64 MiB")
	}
	table, err := parsePasswd(io.LimitReader(f, maxPasswdFile), p.path, p.rules)
	return info, table, err
}

// complain logs what is wrong with the file that was just read.
func (p *passwdFile) complain() {
	for _, err := range p.table.complaints {
		p.log.LogAttrs(context.Background(), slog.LevelWarn, "a line of a passwd-file cannot be used", slog.Any("error", err))
	}
	if p.table.further > 0 {
		p.log.LogAttrs(context.Background(), slog.LevelWarn, "more lines of a passwd-file cannot be used",
			slog.String("file", p.path), slog.Int("lines", p.table.further))
	}
}

// parsePasswd reads a passwd-file. An error is of reading, or of too many
// users: lines that cannot be used are complaints, with path and 1-based line
// number, and do not hinder other users.
func parsePasswd(r io.Reader, path string, rules nameRules) (*passwdTable, error) {
	t := &passwdTable{users: make(map[string]passwdEntry)}
	in := bufio.NewReaderSize(r, maxPasswdLine)
	for n := 1; ; n++ {
		line, tooLong, err := readPasswdLine(in)
		if err != nil && err != io.EOF {
			return nil, err
		}
		t.add(line, tooLong, rules, func(err error) error { return fmt.Errorf("%s:%d: %w", path, n, err) })
		if len(t.users) > maxUsers {
			return nil, fmt.Errorf("it has more than %d users", maxUsers)
		}
		if err == io.EOF {
			return t, nil
		}
	}
}

// add takes one line in. at says in an error where the line is.
func (t *passwdTable) add(line string, tooLong bool, rules nameRules, at func(error) error) {
	name, s, err := parsePasswdLine(line, tooLong, rules)
	if _, twice := t.users[name]; twice {
		err = fmt.Errorf("the user %q has a line above already, which counts", name)
		name, s = "", nil
	}
	if err != nil {
		err = at(err)
		if len(t.complaints) < maxComplaints {
			t.complaints = append(t.complaints, err)
		} else {
			t.further++
		}
	}
	if name == "" {
		return
	}
	entry := passwdEntry{err: err}
	if s != nil {
		entry.hash = strings.Clone(s.stored) // not the whole line
		t.plain = t.plain || s.plain != nil
		if len(t.kinds) < maxKinds {
			t.kinds = kindsOf(t.kinds, s)
		}
	}
	t.users[name] = entry
}

// readPasswdLine returns the next line without its end, or the beginning of one
// that is too long. The line is good until the next call; io.EOF may come with
// the last one.
func readPasswdLine(in *bufio.Reader) (line string, tooLong bool, err error) {
	part, err := in.ReadSlice('\n')
	line = strings.TrimSuffix(strings.TrimSuffix(string(part), "\n"), "\r")
	for err == bufio.ErrBufferFull {
		tooLong = true
		_, err = in.ReadSlice('\n')
	}
	return line, tooLong, err
}

// parsePasswdLine reads one line. The name is "" where there is none: in empty
// lines, in comments, and where it is itself what is wrong. An error together
// with a name means that this user cannot log in until the line is mended; no
// secret and no error, that the user is locked out.
func parsePasswdLine(line string, tooLong bool, rules nameRules) (name string, s *secret, err error) {
	if line == "" || line[0] == '#' || line[0] == ':' { // as Dovecot
		return "", nil, nil
	}
	f := strings.SplitN(line, ":", 8)
	name, err = rules.normal(f[0])
	switch {
	case err != nil:
		return "", nil, err
	case tooLong:
		return name, nil, fmt.Errorf("the line is longer than %d octets", maxPasswdLine)
	case len(f) == 1 || f[1] == "" || f[1][0] == '!' || f[1][0] == '*': // as in shadow(5)
		return name, nil, nil
	}
	if len(f) == 8 {
		for field := range strings.FieldsSeq(f[7]) {
			key, _, _ := strings.Cut(strings.ToLower(field), "=")
			switch key {
			case "nologin":
				return name, nil, nil
			case "allow_nets", "allow_real_nets", "nopassword":
				// To ignore a restriction would let in whom it keeps out.
				return name, nil, fmt.Errorf("user %q: the extra field %s is not supported: remove the field or the user", name, key)
			}
		}
	}
	if s, err = parseSecret(f[1]); err != nil {
		return name, nil, fmt.Errorf("the password of %q: %w", name, err)
	}
	return name, s, nil
}
