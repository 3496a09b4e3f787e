package main

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
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
	line := 0
	for at := path; line == 0 && at != ""; {
		for _, key := range s.keys {
			// An unknown key comes without the index of its table.
			if key.path == at || indexes.ReplaceAllString(key.path, "") == at {
				line = key.line
				break
			}
		}
		at = at[:max(0, strings.LastIndexByte(at, '.'))]
	}
	where := s.path
	if line > 0 {
		where = fmt.Sprintf("%s:%d", s.path, line)
	}
	if path != "" {
		where += ": " + indexes.ReplaceAllString(path, "")
	}
	return fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...))
}

var incompatible = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*)"\): incompatible types: TOML value has type (\S+); destination has type (\S+)$`)

// decodeError rewords what the TOML library says.
func (s *source) decodeError(err error) error {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		where := fmt.Sprintf("%s:%d", s.path, parse.Position.Line)
		if parse.LastKey != "" {
			where += ": " + parse.LastKey
		}
		return fmt.Errorf("%s: %s", where, parse.Message)
	}
	if m := incompatible.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s:%s: %s: found a value of type %s, wanted is %s", s.path, m[1], m[2], m[3], m[4])
	}
	return fmt.Errorf("%s: %w", s.path, err)
}

// unknownKey is the error for a key that no table has, with the nearest that it
// could have been. known are the paths that exist, without indexes.
func (s *source) unknownKey(path string, known []string) error {
	table := path[:strings.LastIndexByte(path, '.')+1]
	best, distance := "", 4
	for _, k := range known {
		if name, ok := strings.CutPrefix(k, table); ok && !strings.Contains(name, ".") {
			if d := editDistance(name, path[len(table):]); d < distance {
				best, distance = name, d
			}
		}
	}
	if best != "" {
		return s.errorf(path, "unknown key; did you mean %q?", best)
	}
	return s.errorf(path, "unknown key; config.example.toml shows all there are")
}

// knownKeys are the paths of the keys that v, a struct, is decoded from.
func knownKeys(v any, prefix string) []string {
	var keys []string
	t := reflect.TypeOf(v)
	for f := range t.NumField() {
		field := t.Field(f)
		name, ok := field.Tag.Lookup("toml")
		name, _, _ = strings.Cut(name, ",")
		ft := field.Type
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		switch {
		case field.Anonymous && ft.Kind() == reflect.Struct:
			keys = append(keys, knownKeys(reflect.Zero(ft).Interface(), prefix)...)
		case !ok || name == "-":
		default:
			keys = append(keys, prefix+name)
			if ft.Kind() == reflect.Struct {
				keys = append(keys, knownKeys(reflect.Zero(ft).Interface(), prefix+name+".")...)
			}
		}
	}
	return keys
}

// editDistance counts the insertions, deletions and changes from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
