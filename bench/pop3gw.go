package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// buildGateway builds pop3gw from the module of the current folder.
func buildGateway(ctx context.Context, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "pop3gw/cmd/pop3gw")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building pop3gw: %w", err)
	}
	return nil
}

// gatewayConfig is the least that a gateway needs; all else is the default.
const gatewayConfig = `hostname = "localhost"
[[listeners]]
address = "%s"
tls = "stls"
cleartext_login = "always"
[tls]
certificate = %q
key = %q
[adapters.store]
%s
[[routes]]
users = "*"
adapter = "store"
%s
[state]
url = "file://%s"
`

// maildirGateway is pop3gw over the Maildirs in mail.
func maildirGateway(binary, dir, mail, users string, cert keyPair) (*server, error) {
	store := fmt.Sprintf("type = \"maildir\"\npath = %q", filepath.Join(mail, "{user}"))
	return newGateway("pop3gw", binary, dir, cert, store, fmt.Sprintf("passwd_file = %q", users))
}

// imapGateway is pop3gw before an IMAP server, which checks passwords. options are
// lines for its adapter.
func imapGateway(binary, dir, upstream string, cert keyPair, options ...string) (*server, error) {
	store := append([]string{`type = "imap"`, `tls = "none"`, fmt.Sprintf("address = %q", upstream)}, options...)
	return newGateway("pop3gw over IMAP", binary, dir, cert, strings.Join(store, "\n"), "")
}

func newGateway(name, binary, dir string, cert keyPair, store, route string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	// All that the gateway may keep lies in this one folder.
	kept := filepath.Join(dir, "kept")
	config := filepath.Join(dir, "config.toml")
	s := &server{name: name, greeting: "+OK", addr: addr, logFile: filepath.Join(dir, "log")}
	s.forget = func() error { return errors.Join(os.RemoveAll(kept), ownedFolder(kept)) }
	s.command = func() *exec.Cmd {
		cmd := exec.Command(binary, "serve", "--config", config)
		cmd.Dir = kept
		cmd.Env = append(os.Environ(), "HOME="+kept, "XDG_CACHE_HOME="+kept, "XDG_STATE_HOME="+kept)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mailUID, Gid: mailUID}}
		return cmd
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(gatewayConfig, addr, cert.certificate, cert.key, store, route, filepath.Join(kept, "state"))
	return s, errors.Join(s.forget(), os.WriteFile(config, []byte(text), 0o644))
}

func ownedFolder(dir string) error {
	return errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, mailUID, mailUID))
}
