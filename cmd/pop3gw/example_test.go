package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pop3gw/adapters/imap"
	"pop3gw/adapters/maildir"
	"pop3gw/gateway"
)

// withoutDefault are the keys whose commented lines in the example are examples.
var withoutDefault = []string{
	"listeners.proxy_protocol_from", "listeners.workarounds", "listeners.client_ca_file", "tls.certificates.certificate", "tls.certificates.key",
	"adapters.imap.ca_file", "adapters.imap.server_name", "adapters.imap.trash_mailbox",
	"adapters.imap.master_user", "adapters.imap.master_password", "adapters.imap.master_password_file",
	"users.password_file", "users.upstream_password", "adapters.maildir.trash_mailbox",
	"users.on_delete", "users.trash_mailbox", "users.on_retrieve", "users.mailboxes", "adapters.imap.mailboxes", "adapters.maildir.mailboxes", "users.window", "users.expire_after", "login.default_domain", "state.url", "state.key_file",
	"users.oauth", "users.oauth_user", "routes.oauth", "oauth.preset", "oauth.tenant", "oauth.client_secret", "oauth.client_secret_file",
	"oauth.service_account_file", "oauth.scopes", "oauth.auth_url", "oauth.token_url", "oauth.device_url", "oauth.revoke_url", "oauth.issuer",
	"oauth.keys_url", "oauth.redirect_url", "oauth.ca_file",
	"admin.address", "admin.token", "admin.token_file",
	"enrol.address", "enrol.public_url", "enrol.domains", "enrol.providers.oauth", "enrol.providers.adapter", "enrol.providers.title",
}

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exampleKeys calls each for every line of the example that shows a key. path is
// as in allKeys.
func exampleKeys(text string, each func(line int, path string, commented bool)) {
	keyLine := regexp.MustCompile(`^(#?)([a-z_]+) = (.+)$`)
	tableLine := regexp.MustCompile(`^#?(\[\[?)([^\[\]]+)\]`) // also of one that is not there
	table := ""
	for i, line := range strings.Split(text, "\n") {
		if m := tableLine.FindStringSubmatch(line); m != nil {
			table = m[2] + "."
			if strings.HasPrefix(table, "oauth.") {
				table = "oauth."
			}
		} else if m := keyLine.FindStringSubmatch(line); m != nil {
			if m[2] == "type" {
				table = "adapters." + strings.Trim(m[3], `"`) + "."
			}
			each(i, table+m[2], m[1] == "#")
		}
	}
}

// allKeys are the paths of the keys below a table; those of adapters begin with
// "adapters." and their type.
func allKeys(path string, t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		typ := f.typ
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		switch typ.Kind() {
		case reflect.Struct:
			keys = append(keys, allKeys(path+f.key+".", typ)...)
		case reflect.Map:
			if typ.Elem() != primitive {
				keys = append(keys, allKeys(path+f.key+".", typ.Elem())...)
				continue
			}
			for kind, table := range adapterTables {
				keys = append(keys, allKeys(path+f.key+"."+kind+".", table)...)
			}
		default:
			keys = append(keys, path+f.key)
		}
	}
	return keys
}

func TestExampleHasEveryKey(t *testing.T) {
	known := allKeys("", reflect.TypeFor[config]())
	if len(known) < 40 {
		t.Fatalf("only %d keys are known: %v", len(known), known)
	}
	shown := make(map[string]bool)
	exampleKeys(readExample(t), func(line int, path string, _ bool) {
		shown[path] = true
		if !slices.Contains(known, path) {
			t.Errorf("line %d: %s is no key", line+1, path)
		}
	})
	for _, path := range known {
		if key, ok := strings.CutPrefix(path, "routes."); ok && slices.Contains(withoutDefault, "users."+key) {
			continue // as for users
		}
		if !shown[path] {
			t.Errorf("%s is missing", path)
		}
	}
	for _, path := range withoutDefault {
		if !slices.Contains(known, path) {
			t.Errorf("withoutDefault has %s, which is no key", path)
		}
	}
}

func TestExampleShowsTheDefaults(t *testing.T) {
	text := readExample(t)
	lines := strings.Split(text, "\n")
	uncommented := 0
	exampleKeys(text, func(line int, path string, commented bool) {
		if commented && !slices.Contains(withoutDefault, path) {
			lines[line] = lines[line][1:]
			uncommented++
		}
	})
	if uncommented < 20 {
		t.Fatalf("only %d defaults are shown", uncommented)
	}
	plain, err := parseConfig("plain", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	spelled, err := parseConfig("spelled", []byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s by default: %+v\nas shown: %+v", what, a, b)
		}
	}
	same("[limits]", gateway.DefaultLimits(), spelled.Limits)
	same("[lock]", plain.Lock, spelled.Lock)
	same("[login]", plain.Login, spelled.Login)
	same("[log]", plain.Log, spelled.Log)
	same("mechanisms", gateway.DefaultMechanisms, spelled.Listeners[1].Mechanisms)
	spelled.Listeners[1].Mechanisms = nil
	same("[[listeners]]", plain.Listeners, spelled.Listeners)

	p, s := plain.adapters["office"].IMAP, spelled.adapters["office"].IMAP
	same("connect_timeout", 30*time.Second, s.ConnectTimeout)
	same("response_timeout", 60*time.Second, s.ResponseTimeout)
	s.ConnectTimeout, s.ResponseTimeout = 0, 0 // the connection completes these, not the adapter
	locks, log := new(gateway.Locks), newLogger(newSyncBuffer(), plain.Log)
	byDefault, err1 := imap.New(p, locks, nil, log)
	shown, err2 := imap.New(s, locks, nil, log)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	same("IMAP adapter", byDefault, shown)
	policy := gateway.DefaultPolicy()
	policy.Mailboxes = nil
	same("maildir adapter", maildir.Options{Path: "/var/mail/{domain}/{local}/Maildir", FirstListingTimeout: maildir.DefaultFirstListingTimeout, UIDL: maildir.DefaultUIDL, Policy: policy}, spelled.adapters["files"].Maildir)
}

// inFolder puts the files that a documented configuration names into dir.
func inFolder(t *testing.T, dir, text string) string {
	t.Helper()
	writeTestCertificate(t, dir)
	write(t, mkdir(t, filepath.Join(dir, "secrets")), "scanner-imap", "secret\n")
	write(t, filepath.Join(dir, "secrets"), "google", "secret\n")
	write(t, dir, "users", "bob@example.org:{PLAIN}secret\n")
	write(t, dir, "scanner", "secret\n")
	return strings.NewReplacer("/etc/pop3gw/", dir+"/", "/etc/dovecot/", dir+"/", "/run/secrets/", dir+"/").Replace(text)
}

func TestExampleIsReadyToServe(t *testing.T) {
	dir := t.TempDir()
	if err := buildFile(write(t, dir, "config.toml", inFolder(t, dir, readExample(t)))); err != nil {
		t.Error(err)
	}
}

func TestConfigurationsOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	hash, _, _ := pop3gw(t, "secret", "passwd")
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 3 {
		t.Fatalf("it shows %d configurations, want the three commonest uses", len(blocks))
	}
	for i, b := range blocks {
		dir := t.TempDir()
		text := strings.ReplaceAll(inFolder(t, dir, b[1]), "$argon2id$v=19$m=19456,t=2,p=1$...", strings.TrimSpace(hash))
		if err := buildFile(write(t, dir, "config.toml", text)); err != nil {
			t.Errorf("configuration %d: %v", i+1, err)
		}
	}
}
