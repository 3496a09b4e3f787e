package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pop3gw/gateway"
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

// process is pop3gw in a process of its own.
type process struct {
	*exec.Cmd
	out  *syncBuffer // standard output and error
	done chan struct{}
}

// start starts pop3gw. Temporary files lie in tmp.
func start(t *testing.T, tmp string, args ...string) *process {
	t.Helper()
	p := &process{exec.Command(os.Args[0], args...), newSyncBuffer(), make(chan struct{})}
	p.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+tmp)
	p.Stdout, p.Stderr = p.out, p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.Wait(); close(p.done) }()
	t.Cleanup(func() { p.Process.Kill(); <-p.done })
	return p
}

// end sends a signal and returns the exit code.
func (p *process) end(t *testing.T, s syscall.Signal) int {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return p.exit(t)
}

func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end; it wrote:\n%s", p.out)
	}
	return p.ProcessState.ExitCode()
}

// client is a POP3 client that knows nothing but lines.
type client struct {
	*textproto.Conn
	nc net.Conn
	t  *testing.T
}

// dial connects to address, with TLS from the start if config is set, and
// returns the greeting.
func dial(t *testing.T, address string, config *tls.Config) (c *client, greeting string) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if config != nil {
		nc = tls.Client(nc, config)
	}
	c = &client{textproto.NewConn(nc), nc, t}
	return c, c.line("")
}

// do sends a command and returns the first line of the reply, which must begin
// with want.
func (c *client) do(want, command string) string {
	c.t.Helper()
	if err := c.PrintfLine("%s", command); err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	line := c.line(command)
	if !strings.HasPrefix(line, want) {
		c.t.Fatalf("%s: %s; want %s", command, line, want)
	}
	return line
}

func (c *client) line(command string) string {
	c.t.Helper()
	line, err := c.ReadLine()
	if err != nil {
		c.t.Fatalf("reading the answer to %q: %v", command, err)
	}
	return line
}

// body reads the rest of a multi-line reply, line ends being LF.
func (c *client) body() string {
	c.t.Helper()
	text, err := c.ReadDotBytes()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// stls turns TLS on.
func (c *client) stls(config *tls.Config) {
	c.t.Helper()
	c.do("+OK", "STLS")
	c.nc = tls.Client(c.nc, config)
	c.Conn = textproto.NewConn(c.nc)
}

// isClosed reports whether the server has closed the connection. It may have
// said why.
func (c *client) isClosed() bool {
	line, err := c.ReadLine()
	if strings.HasPrefix(line, "-ERR ") {
		_, err = c.ReadLine()
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

func credentials(user, password string) gateway.Credentials {
	return gateway.Credentials{User: user, Password: password}
}

// write writes a file of t's own folder and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeTestCertificate puts tls.crt and tls.key into dir.
func writeTestCertificate(t *testing.T, dir string) {
	t.Helper()
	if err := writeCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
}

// occupied is the address of a listener that is open until the test ends.
func occupied(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// unreachable is an address that nothing listens on.
func unreachable(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
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
	for _, command := range []string{"check", "completion", "demo", "help", "passwd", "serve", "version", "config"} {
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
