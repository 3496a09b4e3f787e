package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// source is a configuration file as text, to say where in it something stands.
type source struct {
	path string
	keys []sourceKey
}

// sourceKey is a key of the file: "listeners[0].tls", or the table "tls".
type sourceKey struct {
	path string
	line int // from 1
}

// isIn reports whether k is the key called path, or a key or an entry of it.
func (k sourceKey) isIn(path string) bool {
	rest, ok := strings.CutPrefix(k.path, path)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

var (
	tableLine = regexp.MustCompile(`^\s*(\[\[?)\s*([^\[\]]+?)\s*\]`)
	keyLine   = regexp.MustCompile(`^\s*([A-Za-z0-9_.\-"' ]+?)\s*=`)
	indexes   = regexp.MustCompile(`\[\d+\]`)
	quotes    = strings.NewReplacer(`"`, "", `'`, "")
)

// newSource finds the keys of a file. It need not understand all of TOML: a key
// that it misses only lacks its line number.
func newSource(path string, text []byte) *source {
	s := &source{path: path}
	entries := make(map[string]int)
	table := ""
	for i, line := range strings.Split(string(text), "\n") {
		if m := tableLine.FindStringSubmatch(line); m != nil {
			table = quotes.Replace(m[2])
			if m[1] == "[[" {
				entries[table]++
				table += "[" + strconv.Itoa(entries[table]-1) + "]"
			}
			s.keys = append(s.keys, sourceKey{table, i + 1})
			table += "."
		} else if m := keyLine.FindStringSubmatch(line); m != nil {
			s.keys = append(s.keys, sourceKey{table + quotes.Replace(m[1]), i + 1})
		}
	}
	return s
}

// errorf is an error at the key called path, "users[1].name". Without such a key
// in the file it is at the table that lacks it.
func (s *source) errorf(path, format string, args ...any) error {
	where := s.path
	for at := path; at != ""; at = parent(at) {
		if i := slices.IndexFunc(s.keys, func(k sourceKey) bool { return k.isIn(at) }); i >= 0 {
			where = fmt.Sprintf("%s:%d", s.path, s.keys[i].line)
			break
		}
	}
	if path != "" {
		where += ": " + indexes.ReplaceAllString(path, "")
	}
	return fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...))
}

// keyErrors places the errors of a package that checks the options in a table:
// each begins with its key.
func (s *source) keyErrors(table string, err error) error {
	var errs []error
	for _, err := range flatten(err) {
		key, text, _ := strings.Cut(err.Error(), ": ")
		errs = append(errs, s.errorf(table+"."+key, "%s", text))
	}
	return errors.Join(errs...)
}

// parent takes the last name or index off a path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// syntaxError rewords what the TOML library says of a file that it cannot read.
func (s *source) syntaxError(err error) error {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	where := fmt.Sprintf("%s:%d", s.path, parse.Position.Line)
	if parse.LastKey != "" {
		where += ": " + parse.LastKey
	}
	text := strings.TrimSuffix(parse.Message, ".")
	if strings.HasSuffix(text, "has already been defined") {
		text += "; only [[listeners]], [[users]] and [[routes]], with two brackets, may stand several times"
	}
	return fmt.Errorf("%s: %s", where, text)
}
