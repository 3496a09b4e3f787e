//go:build docs

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// forClients are the calls whose first argument, or the second of reply, is a text
// that clients are told.
var forClients = map[string]int{"badCommand": 0, "BadResponse": 0, "Unavailable": 0, "Unusable": 0, "temporary": 0, "permanent": 0, "reply": 1}

// textNames are the variables, constants and fields whose values clients are told.
var textNames = []string{"Text", "text", "untrusted", "incomplete", "full"}

// forAdmins are the calls that log something that may need an admin.
var forAdmins = map[string]int{"Warn": 0, "Error": 0, "LogAttrs": 2}

// inCommands are the calls of this package that make the errors of the configuration
// file and of commands.
var inCommands = map[string]int{"errorf": 1, "Errorf": 0, "New": 0}

var verbs = regexp.MustCompile(`%[-+# 0-9.*]*(\[\d+\])?[a-zA-Z]`)

// texts calls each for every text that a package tells clients or admins, as far as
// it stands in the source: what is filled in splits a text into several. The enrolment
// page is left out, since it explains itself.
func texts(t *testing.T, root string, each func(at, text string)) {
	t.Helper()
	files := token.NewFileSet()
	told := []map[string]int{forClients, forAdmins}
	if root == "." {
		told = append(told, inCommands)
	}
	literals := func(e ast.Expr) {
		ast.Inspect(e, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && name(call) != "Sprintf" {
				return false // what it is called with is for somebody else
			}
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range verbs.Split(text, -1) {
				if part = strings.Trim(part, " ,:;()"); len(part) > 3 && strings.Contains(part, " ") {
					each(files.Position(literal.Pos()).String(), part)
				}
			}
			return true
		})
	}
	named := func(key, value ast.Expr) {
		if field, ok := key.(*ast.SelectorExpr); ok {
			key = field.Sel
		}
		if id, ok := key.(*ast.Ident); ok && slices.Contains(textNames, id.Name) {
			literals(value)
		}
	}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && slices.Contains([]string{"maildroptest", "enrol"}, entry.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				for _, calls := range told {
					if i, ok := calls[name(n)]; ok && len(n.Args) > i && !isOK(n.Args[0]) {
						literals(n.Args[i])
					}
				}
			case *ast.KeyValueExpr: // Error{Text: "..."}
				named(n.Key, n.Value)
			case *ast.AssignStmt:
				for i := range min(len(n.Lhs), len(n.Rhs)) {
					named(n.Lhs[i], n.Rhs[i])
				}
			case *ast.ValueSpec:
				for i := range n.Values {
					named(n.Names[i], n.Values[i])
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isOK reports whether an argument is the beginning of a good reply.
func isOK(e ast.Expr) bool {
	literal, ok := e.(*ast.BasicLit)
	return ok && literal.Value == `"+OK"`
}

// name is that of the function or method that is called.
func name(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func TestDocumentedMessages(t *testing.T) {
	document, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	has := strings.Join(strings.Fields(string(document)), " ")
	n := 0
	for _, root := range []string{"../../gateway", "../../adapters", "."} {
		texts(t, root, func(at, text string) {
			n++
			if !strings.Contains(has, text) && !strings.Contains(at, "/loopback.go:") && text != "POP3 server ready" { // a page for a browser, a greeting
				t.Errorf("%s: docs/troubleshooting.md does not explain %q", at, text)
			}
		})
	}
	if n < 100 {
		t.Errorf("only %d texts were found in the sources", n)
	}
}
