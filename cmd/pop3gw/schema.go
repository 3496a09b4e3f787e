package main

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// The structs of the configuration are its schema. A file is held against them
// before it is decoded, since the TOML library stops at the first mistake, does
// not know in which of several [[listeners]] it is, and takes a bare number for
// nanoseconds.

// adapterTables are the schemas of one table of [adapters], by its type.
var adapterTables = map[string]reflect.Type{
	"maildir": reflect.TypeFor[maildirTable](),
	"imap":    reflect.TypeFor[imapTable](),
}

// primitive is the type of tables whose schema depends on their type key.
var primitive = reflect.TypeFor[toml.Primitive]()

// field is a key of a table.
type field struct {
	key string
	typ reflect.Type
}

// fieldsOf returns the keys of a table that is decoded into t, a struct.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for f := range t.NumField() {
		f := t.Field(f)
		if f.Anonymous {
			fields = append(fields, fieldsOf(f.Type)...)
		} else if key, ok := f.Tag.Lookup("toml"); ok {
			fields = append(fields, field{key, f.Type})
		}
	}
	return fields
}

// checkTable returns every mistake in a table that is to be decoded into t.
// path is the table's own, with a final dot, or "".
func (s *source) checkTable(path string, table map[string]any, t reflect.Type) error {
	fields := fieldsOf(t)
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(table)) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		if i < 0 {
			errs = append(errs, s.unknownKey(path, key, fields))
			continue
		}
		errs = append(errs, s.checkValue(path+key, table[key], fields[i].typ))
	}
	return errors.Join(errs...)
}

func (s *source) checkValue(path string, value any, t reflect.Type) error {
	wrong := func(allowed string) error {
		return s.errorf(path, "found %s; wanted is %s", describe(value), allowed)
	}
	text, isText := value.(string)
	if choice, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
		if !isText {
			return wrong("a text in quotes")
		}
		if err := choice.UnmarshalText([]byte(text)); err != nil {
			return s.errorf(path, "%w", err)
		}
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		if !isText {
			return wrong("a text in quotes")
		}
	case reflect.Bool:
		if _, ok := value.(bool); !ok {
			return wrong("true or false")
		}
	case reflect.Int64: // of the schema, durations alone
		if _, err := time.ParseDuration(text); err != nil {
			return wrong(`a time with its unit, in quotes, such as "10m" or "500ms"`)
		}
	case reflect.Int:
		if n, ok := value.(int64); !ok || n > math.MaxInt {
			return wrong("a whole number, without quotes")
		}
	case reflect.Pointer:
		return s.checkValue(path, value, t.Elem())
	case reflect.Struct:
		table, ok := value.(map[string]any)
		if !ok {
			return wrong(fmt.Sprintf("one table, [%s]", path))
		}
		return s.checkTable(path+".", table, t)
	case reflect.Slice:
		return s.checkList(path, value, t.Elem())
	case reflect.Map: // [adapters] and [oauth]
		tables, ok := value.(map[string]any)
		if !ok {
			return wrong(fmt.Sprintf("tables [%s.NAME]", path))
		}
		var errs []error
		for _, name := range slices.Sorted(maps.Keys(tables)) {
			if t.Elem() != primitive {
				errs = append(errs, s.checkValue(path+"."+name, tables[name], t.Elem()))
			} else {
				errs = append(errs, s.checkAdapter(path+"."+name, tables[name]))
			}
		}
		return errors.Join(errs...)
	}
	return nil
}

// checkList checks an array of texts or of tables.
func (s *source) checkList(path string, value any, elem reflect.Type) error {
	isTable := elem.Kind() == reflect.Struct
	var errs []error
	list := reflect.ValueOf(value)
	if list.Kind() != reflect.Slice {
		if isTable {
			return s.errorf(path, "found %s; wanted are tables [[%s]], with two brackets", describe(value), path)
		}
		return s.errorf(path, `found %s; wanted are texts in brackets, ["...", "..."]`, describe(value))
	}
	for i := range list.Len() {
		at := path
		if isTable {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		errs = append(errs, s.checkValue(at, list.Index(i).Interface(), elem))
	}
	return errors.Join(errs...)
}

func (s *source) checkAdapter(path string, value any) error {
	table, ok := value.(map[string]any)
	if !ok {
		return s.errorf(path, "found %s; wanted is a table [%s]", describe(value), path)
	}
	kind, given := table["type"]
	if !given {
		return s.errorf(path+".type", `missing; allowed are "maildir" and "imap"`)
	}
	name, _ := kind.(string)
	t, ok := adapterTables[name]
	if !ok {
		return s.errorf(path+".type", `found %s; allowed are "maildir" and "imap"`, describe(kind))
	}
	return s.checkTable(path+".", table, t)
}

// unknownKey is the error for a key that its table does not have.
func (s *source) unknownKey(path, key string, fields []field) error {
	best, distance := "", 4
	var names []string
	for _, f := range fields {
		names = append(names, f.key)
		if d := editDistance(f.key, key); d < distance && d < len(key) {
			best, distance = f.key, d
		}
	}
	if best != "" {
		return s.errorf(path+key, "unknown key; did you mean %q?", best)
	}
	return s.errorf(path+key, "unknown key; here may stand: %s", strings.Join(names, ", "))
}

// describe says what was found.
func describe(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case int64, float64, bool, time.Time:
		return fmt.Sprint(v)
	case map[string]any:
		return "a table"
	}
	return "an array"
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
