package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
)

// usageTemplate is the part of the help below a command's description.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if or .IsAvailableCommand (eq .Name "help")}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- end}}
{{- if .HasHelpSubCommands}}

Topics of 'pop3gw help':{{range .Commands}}{{if .IsAdditionalHelpTopicCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
`

// tidyBuiltins gives cobra's own commands our words, exit codes and flags.
func tidyBuiltins(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Short = "Print a shell's completion script"
			cmd.Args = noArgs
			cmd.RunE = func(cmd *cobra.Command, args []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Args = noArgs
			}
		case "help":
			cmd.Short = "Explain a command or topic"
			cmd.Run = nil
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				of, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return usageError{fmt.Errorf("no help on %q; see 'pop3gw help'", strings.Join(args, " "))}
				}
				of.InitDefaultHelpFlag()
				return of.Help()
			}
		}
	}
	var helpFlags func(*cobra.Command)
	helpFlags = func(cmd *cobra.Command) {
		cmd.Flags().BoolP("help", "h", false, "show this help")
		for _, sub := range cmd.Commands() {
			helpFlags(sub)
		}
	}
	helpFlags(root)
	root.Flags().BoolP("version", "v", false, "print the version")
}

// newConfigTopic is what 'pop3gw help config' prints.
func newConfigTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString(`The configuration is one file in TOML: that of --config, else of $POP3GW_CONFIG, else
` + defaultConfigFile + `. Paths in it are relative to its folder. These are its keys;
config.example.toml explains each and gives its default.

`)
	writeKeys(&b, "", reflect.TypeFor[config]())
	return &cobra.Command{Use: "config", Short: "The keys of the configuration file", Long: strings.TrimSpace(b.String())}
}

// writeKeys lists the keys of a table, and then those of the tables in it.
func writeKeys(b *strings.Builder, heading string, t reflect.Type) {
	var keys []string
	var tables []func()
	for _, f := range fieldsOf(t) {
		switch {
		case f.typ.Kind() == reflect.Map && f.typ.Elem() != primitive:
			tables = append(tables, func() { writeKeys(b, "["+f.key+".NAME]", f.typ.Elem()) })
		case f.typ.Kind() == reflect.Map:
			for _, kind := range []string{"imap", "maildir"} {
				tables = append(tables, func() {
					writeKeys(b, fmt.Sprintf("[%s.NAME]  type = %q", f.key, kind), adapterTables[kind])
				})
			}
		case f.typ.Kind() == reflect.Struct:
			tables = append(tables, func() { writeKeys(b, "["+f.key+"]", f.typ) })
		case f.typ.Kind() == reflect.Slice && f.typ.Elem().Kind() == reflect.Struct:
			tables = append(tables, func() { writeKeys(b, "[["+f.key+"]]", f.typ.Elem()) })
		default:
			keys = append(keys, f.key)
		}
	}
	if heading == "" {
		heading = "At the top"
	}
	fmt.Fprintf(b, "%s\n", heading)
	line := "   "
	for _, key := range keys {
		if len(line)+1+len(key) > 84 {
			fmt.Fprintln(b, line)
			line = "   "
		}
		line += " " + key
	}
	fmt.Fprintln(b, line)
	for _, write := range tables {
		write()
	}
}
