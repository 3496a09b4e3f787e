//go:build docs

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Packages ship manual pages and completions, which a build with the tag "docs"
// writes: go run -tags docs ./cmd/pop3gw manuals FOLDER

func init() { furtherCommands = append(furtherCommands, newManualsCommand) }

func newManualsCommand() *cobra.Command {
	var date int64
	var example string
	cmd := &cobra.Command{
		Use:    "manuals FOLDER",
		Short:  "Write the manual pages and completion scripts",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeManuals(cmd.Root(), args[0], example, time.Unix(date, 0).UTC())
		},
	}
	cmd.Flags().Int64Var(&date, "date", 0, "`seconds` since 1970 that the pages are of")
	cmd.Flags().StringVar(&example, "example", "config.example.toml", "`file` that the page on the configuration shows")
	return cmd
}

// writeManuals writes man1, man5, and a file for each shell.
func writeManuals(root *cobra.Command, dir, example string, date time.Time) error {
	for _, sub := range []string{"man1", "man5"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Title: "POP3GW", Section: "1", Date: &date, Source: "pop3gw " + version(), Manual: "pop3gw"}
	if err := doc.GenManTree(root, header, filepath.Join(dir, "man1")); err != nil {
		return err
	}
	text, err := os.ReadFile(example)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "man5", "pop3gw-config.5"), configPage(string(text), date), 0o644); err != nil {
		return err
	}
	for file, write := range map[string]func(string) error{
		"bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"zsh":  root.GenZshCompletionFile,
		"fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
	} {
		if err := write(filepath.Join(dir, "pop3gw."+file)); err != nil {
			return err
		}
	}
	return nil
}

// configPage is the manual page of the configuration: the example, as it is.
func configPage(example string, date time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `.TH "POP3GW-CONFIG" "5" "%s" "pop3gw %s" "pop3gw"
.SH NAME
pop3gw-config \- configuration of pop3gw
.SH DESCRIPTION
The configuration is one file in TOML: that of \-\-config, else of $POP3GW_CONFIG, else
/etc/pop3gw/config.toml. This is one with every key.
.PP
.nf
`, date.Format("Jan 2006"), version())
	for line := range strings.Lines(example) {
		line = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(line)
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		b.WriteString(line)
	}
	b.WriteString(".fi\n.SH SEE ALSO\n.BR pop3gw (1)\n")
	return []byte(b.String())
}
