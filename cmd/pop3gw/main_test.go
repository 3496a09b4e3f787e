package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// asCommand makes the test binary behave as pop3gw itself.
const asCommand = "POP3GW_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// pop3gw runs a command line in this process.
func pop3gw(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRootCommand()
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(args)
	code = run(root)
	return out.String(), errs.String(), code
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	wrong := write(t, dir, "wrong.toml", "listeners = 3\n")
	for _, tt := range []struct {
		args   []string
		code   int
		stderr string // all of it
	}{
		{[]string{"version"}, 0, ""},
		{[]string{}, 0, ""},
		{[]string{"nonsense"}, 2, "pop3gw: unknown command \"nonsense\"; see 'pop3gw --help'\n"},
		{[]string{"serv"}, 2, "pop3gw: unknown command \"serv\"; did you mean \"serve\"?\n"},
		{[]string{"chekc"}, 2, "pop3gw: unknown command \"chekc\"; did you mean \"check\"?\n"},
		{[]string{"serve", "--confg", "x"}, 2, "pop3gw: unknown flag: --confg; see 'pop3gw serve --help'\n"},
		{[]string{"serve", "config.toml"}, 2, "pop3gw: 'pop3gw serve' takes no arguments; see 'pop3gw serve --help'\n"},
		{[]string{"demo", "--port"}, 2, "pop3gw: flag needs an argument: --port; see 'pop3gw demo --help'\n"},
		{[]string{"help", "nonsense"}, 2, "pop3gw: no help on \"nonsense\"; see 'pop3gw help'\n"},
		{[]string{"completion", "tcsh"}, 2, "pop3gw: unknown command \"tcsh\"; see 'pop3gw completion --help'\n"},
		{[]string{"serve", "-c", dir + "/none.toml"}, 2, "pop3gw: open " + dir + "/none.toml: no such file or directory; name the configuration file with --config or $POP3GW_CONFIG\n"},
		{[]string{"serve", "-c", wrong}, 2, "pop3gw: " + wrong + ":1: listeners: found 3; wanted are tables [[listeners]], with two brackets\n"},
		{[]string{"check", "-c", wrong}, 2, "pop3gw: " + wrong + ":1: listeners: found 3; wanted are tables [[listeners]], with two brackets\n"},
		{[]string{"passwd"}, 1, "pop3gw: standard input has no password on its first line\n"},
	} {
		_, stderr, code := pop3gw(t, "", tt.args...)
		if code != tt.code || stderr != tt.stderr {
			t.Errorf("pop3gw %s: exit code %d, standard error:\n%swant %d:\n%s", strings.Join(tt.args, " "), code, stderr, tt.code, tt.stderr)
		}
	}
}

func TestConfigPath(t *testing.T) {
	t.Setenv("POP3GW_CONFIG", "")
	if got := configPath(""); got != "/etc/pop3gw/config.toml" {
		t.Errorf("without anything: %s", got)
	}
	t.Setenv("POP3GW_CONFIG", "env.toml")
	if got := configPath(""); got != "env.toml" {
		t.Errorf("with the variable: %s", got)
	}
	if got := configPath("flag.toml"); got != "flag.toml" {
		t.Errorf("with the flag: %s", got)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"serve", "--help"}, {"help", "demo"}, {"help", "config"}, {"completion"}, {"help", "completion", "bash"}} {
		out, stderr, code := pop3gw(t, "", args...)
		if code != 0 || stderr != "" || len(out) < 200 {
			t.Errorf("pop3gw %v: exit code %d, %q, %d octets", args, code, stderr, len(out))
		}
		for line := range strings.Lines(out) {
			if len(line) > 100 || strings.HasSuffix(line, " \n") {
				t.Errorf("pop3gw %v: the line %q", args, line)
			}
		}
	}
	out, _, _ := pop3gw(t, "", "--help")
	for _, command := range []string{"check", "completion", "demo", "health", "help", "passwd", "serve", "uidl", "version", "config"} {
		if !strings.Contains(out, "\n  "+command+" ") {
			t.Errorf("--help lacks %s", command)
		}
	}
}

func TestCompletionAndVersion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		p := start(t, t.TempDir(), "completion", shell)
		code := p.exit(t)
		if out := p.out.String(); code != 0 || !strings.Contains(out, shell+" completion") || len(out) < 1000 {
			t.Errorf("%s: exit code %d, %d octets", shell, code, len(out))
		}
	}
	out, _, _ := pop3gw(t, "", "__complete", "s")
	if !strings.HasPrefix(out, "serve\t") {
		t.Errorf("completing s: %s", out)
	}
	want, _, _ := pop3gw(t, "", "version")
	if got, _, code := pop3gw(t, "", "--version"); code != 0 || got != want || !strings.HasPrefix(got, "pop3gw ") {
		t.Errorf("--version prints %q, version %q", got, want)
	}
}
