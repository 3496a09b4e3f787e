//go:build docs

package main

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configure.md anew")

const configureDocument = "../../docs/configure.md"

const configureHead = `# Configuration, every key

One file in TOML: that of ` + "`--config`" + `, else of ` + "`$POP3GW_CONFIG`" + `, else ` + "`/etc/pop3gw/config.toml`" + `.
` + "`pop3gw check`" + ` tries it, ` + "`pop3gw help config`" + ` lists the keys, SIGHUP
([systemd.md](systemd.md): ` + "`systemctl reload`" + `) puts it in force: adapters, users, routes, certificates, limits,
what listeners offer and the level of the log at once, while the log names what needs a restart.

This is [config.example.toml](../config.example.toml) with headings. A line ` + "`#key = value`" + ` shows
the default, or an example where there is none.
`

var (
	partLine = regexp.MustCompile(`^# ---- (.*?) -+$`)
	anyTable = regexp.MustCompile(`^#?(\[\[?[^\[\]]+\]\]?)`)
)

// documented is the example as a document: a heading for each part and each table.
func documented(example string) string {
	var b strings.Builder
	b.WriteString(configureHead)
	var block []string
	flush := func() {
		text := strings.Trim(strings.Join(block, "\n"), "\n")
		if block = nil; text != "" {
			b.WriteString("\n```toml\n" + text + "\n```\n")
		}
	}
	for line := range strings.Lines(example) {
		line = strings.TrimSuffix(line, "\n")
		if m := partLine.FindStringSubmatch(line); m != nil {
			flush()
			b.WriteString("\n## " + m[1] + "\n")
			continue
		}
		if m := anyTable.FindStringSubmatch(line); m != nil {
			// What is said just above belongs to the table.
			from := len(block)
			for from > 0 && strings.HasPrefix(block[from-1], "# ") {
				from--
			}
			above := block[from:]
			block = block[:from:from]
			flush()
			b.WriteString("\n### `" + m[1] + "`\n")
			block = above
		}
		block = append(block, line)
	}
	flush()
	return b.String()
}

func TestDocumentedKeys(t *testing.T) {
	want := documented(readExample(t))
	if *update {
		must(t, os.WriteFile(configureDocument, []byte(want), 0o644))
	}
	got, err := os.ReadFile(configureDocument)
	must(t, err)
	if string(got) != want {
		t.Error("docs/configure.md is not what config.example.toml says; write it anew: go test -tags docs ./cmd/pop3gw -run TestDocumentedKeys -update")
	}
	if n := strings.Count(want, "\n### "); n < 10 {
		t.Errorf("it has only %d tables", n)
	}
}
