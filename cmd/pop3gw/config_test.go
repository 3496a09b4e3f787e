package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// goodConfig is what the wrong configurations differ from. It listens on a port
// that the system chooses.
const goodConfig = `hostname = "localhost"
[[listeners]]
address = "127.0.0.1:0"
tls = "stls"
[[listeners]]
address = "127.0.0.1:0"
tls = "implicit"
cleartext_login = "never"
[tls]
certificate = "tls.crt"
key = "tls.key"
[adapters.files]
type = "maildir"
path = "/nowhere/{user}"
[adapters.office]
type = "imap"
address = "127.0.0.1:1"
connect_timeout = "30s"
[[users]]
name = "one"
password = "{PLAIN}1"
adapter = "files"
[[users]]
name = "two"
adapter = "office"
[[routes]]
users = "*@example.org"
adapter = "files"
passwd_file = "users"
[[routes]]
users = "*"
adapter = "office"
[limits]
idle_timeout = "10m"
`

// configFolder makes the current folder one with the files of goodConfig.
func configFolder(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	writeTestCertificate(t, dir)
	write(t, dir, "users", "bob@example.org:{PLAIN}secret\n")
	write(t, dir, "empty", "\nsecret\n")
	write(t, dir, "secret", "secret\n")
	writeTestCertificate(t, mkdir(t, "other"))
	write(t, dir, "config.toml", goodConfig)
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// change replaces the first old in text, and appends replacement where old is "".
func change(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if old == "" {
		return text + replacement
	}
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not there to be replaced", old)
	}
	return strings.Replace(text, old, replacement, 1)
}

var uid = regexp.MustCompile(`\(uid \d+\)`)

func TestWrongConfigurations(t *testing.T) {
	configFolder(t)
	if err := buildFile("config.toml"); err != nil {
		t.Fatalf("the configuration that the others differ from: %v", err)
	}
	for _, tt := range []struct {
		name     string
		old, new string
		want     string // lines
	}{
		{"unknown key with a near one", `hostname =`, `hostnam =`, `config.toml:1: hostnam: unknown key; did you mean "hostname"?`},
		{"key in wrong case", `hostname =`, `Hostname =`, `config.toml:1: Hostname: unknown key; did you mean "hostname"?`},
		{"unknown key without", `idle_timeout = "10m"`, `x = 1`, `config.toml:34: limits.x: unknown key; here may stand: max_connections, max_connections_per_address, max_connections_per_user, idle_timeout, login_timeout, max_session, update_timeout, write_timeout, min_write_rate, max_errors, max_login_failures, login_failure_delay, login_delay`},
		{"unknown table", "[limits]", "[limit]", `config.toml:33: limit: unknown key; did you mean "limits"?`},
		{"unknown key of a second entry", `cleartext_login =`, `clear_text_login =`, `config.toml:8: listeners.clear_text_login: unknown key; did you mean "cleartext_login"?`},
		{"key of another type of adapter", `path = "/nowhere/{user}"`, "path = \"/nowhere/{user}\"\nmaster_user = \"root\"", `config.toml:15: adapters.files.master_user: unknown key; here may stand: type, path, folders, first_listing_timeout, on_delete, trash_mailbox, on_retrieve, mailboxes, window, expire_after, uidl, reuse_x_uidl`},
		{"dotted key", `connect_timeout = "30s"`, `policy.max = 3`, `config.toml:18: adapters.office.policy: unknown key; here may stand: type, address, tls, ca_file, server_name, connect_timeout, response_timeout, prefetch, keep_connections, max_kept_connections, send_client_address, max_connections, max_connections_per_user, mailbox, folders, on_delete, trash_mailbox, on_retrieve, mailboxes, window, expire_after, uidl, reuse_x_uidl, without_uidplus, master_user, master_password, master_password_file, master_separator`},

		{"unknown key of the window", `connect_timeout = "30s"`, `window = { max_ages = "3d" }`, `config.toml:18: adapters.office.window.max_ages: unknown key; did you mean "max_age"?`},
		{"number for an age", `connect_timeout = "30s"`, `window.max_age = 30`, `config.toml:18: adapters.office.window.max_age: found 30; wanted is a text in quotes`},
		{"age without a unit", `connect_timeout = "30s"`, `window = { max_age = "30" }`, `config.toml:18: adapters.office.window.max_age: found "30"; allowed are "never" and ages such as "30d", "2w" or "36h"`},
		{"age that nothing reaches", `connect_timeout = "30s"`, `window = { max_age = "never" }`, `config.toml:18: adapters.office.window: found max_age = "never"; leave max_age out to show messages of any age`},
		{"negative window", `name = "two"`, "name = \"two\"\nwindow = { max_messages = -1 }", `config.toml:25: users.window: found max_messages = -1; allowed are numbers above 0, and 0 for no limit`},
		{"no such policy of a Maildir", `path = "/nowhere/{user}"`, "path = \"/nowhere/{user}\"\non_delete = \"shred\"", `config.toml:15: adapters.files.on_delete: found "shred"; allowed are "expunge", "move", "seen", "keep"`},
		{"no such policy of a route", `users = "*@example.org"`, "users = \"*@example.org\"\non_retrieve = \"forget\"", `config.toml:28: routes.on_retrieve: found "forget"; allowed are "keep", "seen"`},
		{"expiry that removes nothing", `connect_timeout = "30s"`, "expire_after = \"30d\"\non_delete = \"keep\"\n[state]\nurl = \"file:///s\"", `config.toml:18: adapters.office.expire_after: found 720h0m0s where on_delete is "keep", so that nothing would be removed; it needs "expunge" or "move"`},
		{"expiry that removes nothing of a user", `name = "two"`, "name = \"two\"\nadapter = \"office\"\nexpire_after = \"1d\"\non_delete = \"seen\"\n[state]\nurl = \"file:///s\"\n[[users]]\nname = \"three\"", `config.toml:26: users.expire_after: found 24h0m0s where on_delete is "seen", so that nothing would be removed; it needs "expunge" or "move"`},
		{"expiry without a state", `connect_timeout = "30s"`, `expire_after = "30d"`, `config.toml:18: adapters.office.expire_after: found an age, for which the gateway must remember what was retrieved; set url in [state]`},
		{"expiry of a route without a state", `users = "*@example.org"`, "users = \"*@example.org\"\nexpire_after = \"2w\"", `config.toml:28: routes.expire_after: found an age, for which the gateway must remember what was retrieved; set url in [state]`},
		{"guarded without a state", `connect_timeout = "30s"`, `without_uidplus = "guarded"`, `config.toml:18: adapters.office.without_uidplus: found "guarded", for which the gateway must note what it changes for the while; set url in [state]`},
		{"mailbox twice", `connect_timeout = "30s"`, `mailboxes = ["INBOX", "Junk", "inbox"]`, `config.toml:18: adapters.office.mailboxes: found "inbox" twice; remove one of the two`},
		{"mailboxes that are none", `name = "two"`, "name = \"two\"\nmailboxes = \"INBOX\"", `config.toml:25: users.mailboxes: found "INBOX"; wanted are texts in brackets, ["...", "..."]`},
		{"folder of a Maildir twice", `path = "/nowhere/{user}"`, "path = \"/nowhere/{user}\"\nmailboxes = [\"A/B\", \"A.B\"]", `config.toml:15: adapters.files.mailboxes: found "A/B" and "A.B", which are one folder; remove one of the two`},
		{"folder of a Maildir that escapes", `path = "/nowhere/{user}"`, "path = \"/nowhere/{user}\"\nmailboxes = [\"../x\"]", `config.toml:15: adapters.files.mailboxes: folder "../x" has an empty level`},
		{"no name of a trash", `path = "/nowhere/{user}"`, "path = \"/nowhere/{user}\"\ntrash_mailbox = \"../x\"", `config.toml:15: adapters.files.trash_mailbox: found "../x"; allowed are names of folders, such as "Trash"`},
		{"several at a time", `idle_timeout = "10m"`, "idle_timeout = 600\nmax_errors = \"x\"\n[log]\nlevl = \"info\"", "config.toml:34: limits.idle_timeout: found 600; wanted is a time with its unit, in quotes, such as \"10m\" or \"500ms\"\n" +
			"config.toml:35: limits.max_errors: found \"x\"; wanted is a whole number, without quotes\n" +
			`config.toml:37: log.levl: unknown key; did you mean "level"?`},

		{"syntax", `hostname = "localhost"`, `hostname = localhost`, `config.toml:1: hostname: expected value but found "localhost" instead`},
		{"table twice", "", "[limits]\n", `config.toml:35: Key 'limits' has already been defined; only [[listeners]], [[users]] and [[routes]], with two brackets, may stand several times`},
		{"one bracket", "", "[login]\nlower_case = true\n[[log]]\n", `config.toml:37: log: found an array; wanted is one table, [log]`},

		{"number for a text", `hostname = "localhost"`, `hostname = 3`, `config.toml:1: hostname: found 3; wanted is a text in quotes`},
		{"number for a text in the first of two", `tls = "stls"`, `tls = 3`, `config.toml:4: listeners.tls: found 3; wanted is a text in quotes`},
		{"text for a list", `tls = "stls"`, `mechanisms = "USER"`, `config.toml:4: listeners.mechanisms: found "USER"; wanted are texts in brackets, ["...", "..."]`},
		{"number in a list", `tls = "stls"`, `mechanisms = ["USER", 3]`, `config.toml:4: listeners.mechanisms: found 3; wanted is a text in quotes`},
		{"text for a truth", `path = "/nowhere/{user}"`, "path = \"/nowhere/{user}\"\nfolders = \"yes\"", `config.toml:15: adapters.files.folders: found "yes"; wanted is true or false`},
		{"text for a number", `idle_timeout = "10m"`, `max_errors = "50"`, `config.toml:34: limits.max_errors: found "50"; wanted is a whole number, without quotes`},
		{"text for an adapter", "[adapters.office]\ntype = \"imap\"\naddress = \"127.0.0.1:1\"\nconnect_timeout = \"30s\"\n", "[adapters]\noffice = \"imap\"\n", `config.toml:16: adapters.office: found "imap"; wanted is a table [adapters.office]`},
		{"array for a time", `idle_timeout = "10m"`, `idle_timeout = ["10m"]`, `config.toml:34: limits.idle_timeout: found an array; wanted is a time with its unit, in quotes, such as "10m" or "500ms"`},
		{"time without a unit", `idle_timeout = "10m"`, `idle_timeout = "600"`, `config.toml:34: limits.idle_timeout: found "600"; wanted is a time with its unit, in quotes, such as "10m" or "500ms"`},
		{"bare number for a time of an adapter", `connect_timeout = "30s"`, `connect_timeout = 30`, `config.toml:18: adapters.office.connect_timeout: found 30; wanted is a time with its unit, in quotes, such as "10m" or "500ms"`},
		{"timer too short", `"10m"`, `"9m"`, `config.toml:34: limits.idle_timeout: is 9m0s and must be at least 10m (RFC 1939 section 3)`},
		{"negative limit", `idle_timeout = "10m"`, `max_errors = -1`, `config.toml:34: limits.max_errors: must not be negative`},

		{"no such tls", `tls = "stls"`, `tls = "starttls"`, `config.toml:4: listeners.tls: found "starttls"; allowed are "stls", "none", "implicit"`},
		{"no such mechanism", `tls = "stls"`, `mechanisms = ["CRAM-MD5"]`, `config.toml:4: listeners.mechanisms: found "CRAM-MD5"; allowed are "USER", "APOP", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "EXTERNAL", "PLAIN", "LOGIN"`},
		{"certificates of nobody", `tls = "stls"`, `mechanisms = ["EXTERNAL"]`, `config.toml:4: listeners.mechanisms: found "EXTERNAL", which needs clients' certificates; set client_ca_file to their authorities`},
		{"no mechanism", `tls = "stls"`, `mechanisms = []`, `config.toml:4: listeners.mechanisms: the list is empty, so that nobody could log in; leave the key out for the default`},
		{"no such workaround", `tls = "stls"`, `workarounds = ["all"]`, `config.toml:4: listeners.workarounds: found "all"; allowed are "outlook-no-nuls", "oe-ns-eoh"`},
		{"no such tls of an adapter", `connect_timeout = "30s"`, `tls = "ssl"`, `config.toml:18: adapters.office.tls: found "ssl"; allowed are "none", "starttls", "implicit"`},
		{"no such lock", "", "[lock]\nwhen_busy = \"queue\"\n", `config.toml:36: lock.when_busy: found "queue"; allowed are "refuse", "wait", "takeover"`},
		{"negative wait", "", "[lock]\nwait = \"-1s\"\n", `config.toml:36: lock.wait: found "-1s"; allowed are times above 0, such as "10s"`},
		{"no such level", "", "[log]\nlevel = \"loud\"\n", `config.toml:36: log.level: found "loud"; allowed are "info", "debug", "warn", "error"`},
		{"admin without an address", "", "[admin]\ntoken = \"0123456789abcdef\"\n", `config.toml:35: admin.address: missing; such as "127.0.0.1:8110"`},
		{"admin without a port", "", "[admin]\naddress = \"localhost\"\n", `config.toml:36: admin.address: found "localhost"; wanted is an address and a port, such as "127.0.0.1:8110"`},
		{"admin with a short token", "", "[admin]\naddress = \"127.0.0.1:8110\"\ntoken = \"secret\"\n", `config.toml:37: admin.token: it must have 16 characters at least, of ASCII and without spaces; "openssl rand -hex 16" makes a good one`},
		{"no such state", "", "[state]\nurl = \"redis://h\"\n", `config.toml:36: state.url: found "redis://h"; allowed is "file:///" and a folder`},
		{"state with a query", "", "[state]\nurl = \"file:///s?x\"\n", `config.toml:36: state.url: found "file:///s?x"; allowed is "file:///" and a folder`},
		{"state on a host", "", "[state]\nurl = \"file://host/s\"\n", `config.toml:36: state.url: found "file://host/s"; allowed is "file:///" and a folder`},
		{"no block", `tls = "stls"`, `proxy_protocol_from = ["10.0.0.0/8", "10.0.0.1/33"]`, `config.toml:4: listeners.proxy_protocol_from: found "10.0.0.1/33"; wanted are addresses such as "192.0.2.10", or blocks such as "10.0.0.0/8" and "2001:db8::/32"`},
		{"name of a balancer", `tls = "stls"`, `proxy_protocol_from = ["haproxy"]`, `config.toml:4: listeners.proxy_protocol_from: found "haproxy"; wanted are addresses such as "192.0.2.10", or blocks such as "10.0.0.0/8" and "2001:db8::/32"`},
		{"mapped block", `tls = "stls"`, `proxy_protocol_from = ["::ffff:10.0.0.0/104"]`, `config.toml:4: listeners.proxy_protocol_from: found "::ffff:10.0.0.0/104"; wanted are addresses such as "192.0.2.10", or blocks such as "10.0.0.0/8" and "2001:db8::/32"`},
		{"no login at all", `tls = "stls"`, "tls = \"none\"\ncleartext_login = \"never\"", `config.toml:5: listeners.cleartext_login: found "never" where tls is "none", so that nobody could log in; change one of them`},
		{"host name", `"localhost"`, `"pop <x>"`, `config.toml:1: hostname: found "pop <x>"; wanted is a host name such as "pop.example.org"`},

		{"no listener", goodConfig, "[[routes]]\nusers = \"*\"\nadapter = \"x\"\n[adapters.x]\ntype = \"imap\"\naddress = \"x\"\n", `config.toml: listeners: there is none; add a [[listeners]] table with an address`},
		{"no user", goodConfig, "[[listeners]]\naddress = \":0\"\n", `config.toml: there is neither a [[users]] nor a [[routes]] table, so that nobody could log in; add one`},
		{"nothing", goodConfig, "", "config.toml: listeners: there is none; add a [[listeners]] table with an address\n" +
			"config.toml: there is neither a [[users]] nor a [[routes]] table, so that nobody could log in; add one"},
		{"no address", `address = "127.0.0.1:0"`, "", `config.toml:2: listeners.address: missing; such as "0.0.0.0:110"`},
		{"address without a port", `"127.0.0.1:0"`, `"127.0.0.1"`, `config.toml:3: listeners.address: found "127.0.0.1"; wanted is an address and a port, such as "0.0.0.0:110", or "[::]:110"`},
		{"port too large", `"127.0.0.1:0"`, `"127.0.0.1:65536"`, `config.toml:3: listeners.address: found "127.0.0.1:65536"; wanted is an address and a port, such as "0.0.0.0:110", or "[::]:110"`},
		{"same address twice", goodConfig, strings.ReplaceAll(goodConfig, "127.0.0.1:0", "127.0.0.1:1110"), `config.toml:6: listeners.address: found "127.0.0.1:1110", which is the address of entry 1 as well; choose another port`},

		{"no certificate", "[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n", "", "config.toml:4: listeners.tls: found \"stls\", which needs a certificate; set certificate and key in [tls]\n" +
			`config.toml:7: listeners.tls: found "implicit", which needs a certificate; set certificate and key in [tls]`},
		{"no key", "key = \"tls.key\"\n", "", `config.toml:9: tls: found one of certificate and key; they go together`},
		{"missing certificate", `"tls.crt"`, `"none.crt"`, `config.toml:10: tls.certificate: open none.crt: no such file or directory; set it to a PEM file that the gateway's user (uid 0) can read`},
		{"missing key", `"tls.key"`, `"none.key"`, `config.toml:11: tls.key: open none.key: no such file or directory; set it to a PEM file that the gateway's user (uid 0) can read`},
		{"mismatched pair", `"tls.key"`, `"other/tls.key"`, `config.toml:9: tls: tls: private key does not match public key; tls.crt and other/tls.key must be PEM files of one pair`},
		{"no PEM file", `"tls.crt"`, `"users"`, `config.toml:9: tls: tls: failed to find any PEM data in certificate input; users and tls.key must be PEM files of one pair`},

		{"no such profile", `tls = "stls"`, `tls_profile = "old"`, `config.toml:4: listeners.tls_profile: found "old"; allowed are "modern", "legacy"`},
		{"profile without TLS", `tls = "stls"`, "tls = \"none\"\ntls_profile = \"legacy\"", `config.toml:5: listeners.tls_profile: found "legacy" where tls is "none"; remove it, or set tls`},
		{"profile legacy without an RSA key", `tls = "stls"`, `tls_profile = "legacy"`, `config.toml:4: listeners.tls_profile: found "legacy", whose devices need a certificate with an RSA key, and there is none: add one as [[tls.certificates]] (certbot: --key-type rsa), or choose "modern"`},
		{"authorities without TLS", `tls = "stls"`, "tls = \"none\"\nclient_ca_file = \"tls.crt\"", `config.toml:5: listeners.client_ca_file: found "tls.crt" where tls is "none"; remove it, or set tls`},
		{"missing authorities", `tls = "stls"`, `client_ca_file = "none.crt"`, `config.toml:4: listeners.client_ca_file: open none.crt: no such file or directory; set it to a PEM file that the gateway's user (uid 0) can read`},
		{"authorities that are none", `tls = "stls"`, `client_ca_file = "tls.key"`, `config.toml:4: listeners.client_ca_file: found no certificate in tls.key; wanted is a PEM file with those of the authorities that clients' certificates come from`},
		{"further pair without a key", `key = "tls.key"`, "key = \"tls.key\"\n[[tls.certificates]]\ncertificate = \"tls.crt\"", `config.toml:12: tls.certificates: found one of certificate and key; they go together`},
		{"further pair of nothing", `key = "tls.key"`, "key = \"tls.key\"\n[[tls.certificates]]\n", `config.toml:12: tls.certificates: found neither certificate nor key; set both, or remove the table`},
		{"further pair that is none", `key = "tls.key"`, "key = \"tls.key\"\n[[tls.certificates]]\ncertificate = \"tls.crt\"\nkey = \"other/tls.key\"", `config.toml:12: tls.certificates: tls: private key does not match public key; tls.crt and other/tls.key must be PEM files of one pair`},

		{"no type", `type = "maildir"`, ``, `config.toml:12: adapters.files.type: missing; allowed are "maildir" and "imap"`},
		{"no such type", `type = "maildir"`, `type = "mbox"`, `config.toml:13: adapters.files.type: found "mbox"; allowed are "maildir" and "imap"`},
		{"relative path", `"/nowhere/{user}"`, `"nowhere/{user}"`, `config.toml:14: adapters.files.path: found "nowhere/{user}"; it must begin with /`},
		{"no such placeholder", `{user}`, `{name}`, `config.toml:14: adapters.files.path: found "/nowhere/{name}"; it has the unknown placeholder {name}; allowed are {user}, {local} and {domain}`},
		{"no address of an adapter", `address = "127.0.0.1:1"`, ``, `config.toml:15: adapters.office.address: found ""; allowed are a host and a port, such as "imap.example.org:993"`},
		{"no CA file", `connect_timeout = "30s"`, `ca_file = "none.crt"`, `config.toml:18: adapters.office.ca_file: open none.crt: no such file or directory`},
		{"master without a password", `connect_timeout = "30s"`, `master_user = "master"`, `config.toml:15: adapters.office.master_password: found none; master_user needs master_password or master_password_file`},
		{"master with both", `connect_timeout = "30s"`, "master_user = \"master\"\nmaster_password = \"x\"\nmaster_password_file = \"secret\"", `config.toml:19: adapters.office.master_password: found this and master_password_file; set one of them`},

		{"wrong name of an adapter", `adapter = "files"`, `adapter = "file"`, `config.toml:22: users.adapter: found "file"; [adapters] has: files, office`},
		{"no name of an adapter", "adapter = \"files\"\n[[users]]", "[[users]]", `config.toml:19: users.adapter: missing; [adapters] has: files, office`},
		{"no adapter", goodConfig, "[[listeners]]\naddress = \":0\"\n[[routes]]\nusers = \"*\"\nadapter = \"x\"\n", `config.toml:5: routes.adapter: found "x"; there is no adapter: add a table [adapters.NAME]`},
		{"no name", `name = "one"`, ``, `config.toml:19: users.name: missing; such as "scanner"`},
		{"no pattern", `users = "*@example.org"`, ``, `config.toml:26: routes.users: missing; such as "*" for everybody`},
		{"same name twice", `name = "two"`, `name = "one"`, `config.toml:24: users.name: "one" is the same login name as that of entry 1: remove one`},
		{"name that is none", `name = "one"`, `name = "@one"`, `config.toml:20: users.name: "@one": the name has nothing on one side of its @`},
		{"two mistakes of users", `name = "two"`, "name = \"@\"\nadapter = \"office\"\n[[users]]\nname = \"one\"", "config.toml:24: users.name: \"@\": the name has nothing on one side of its @\n" +
			`config.toml:27: users.name: "one" is the same login name as that of entry 1: remove one`},
		{"domain", "", "[login]\ndefault_domain = \"@example.org\"\n", `config.toml:36: login.default_domain: "@example.org" is not a domain: write it without "@", such as "example.org"`},
		{"route that is never reached", `users = "*@example.org"`, `users = "*"`, `config.toml:31: routes.users: route "*": no name gets here, since entry 1 ("*") takes them all: change the order or remove one`},
		{"Maildir without a passwd-file", `passwd_file = "users"`, ``, `config.toml:26: routes.passwd_file: route "*@example.org": it is missing, and the adapter cannot check passwords: add it`},
		{"Maildir without a password", `password = "{PLAIN}1"`, ``, `config.toml:19: users.password: user "one": it is missing, and the adapter cannot check one: make a hash with "pop3gw passwd"`},
		{"upstream password missing", `adapter = "files"`, `adapter = "office"`, `config.toml:19: users.upstream_password_file: user "one": it is missing: add it (or oauth), or remove password so that the client's own password logs in upstream`},
		{"upstream password of no use", `password = "{PLAIN}1"`, "password = \"{PLAIN}1\"\nupstream_password = \"x\"", `config.toml:22: users.upstream_password: user "one": the adapter does not log in anywhere: remove it`},
		{"password and file", `password = "{PLAIN}1"`, "password = \"{PLAIN}1\"\npassword_file = \"secret\"", `config.toml:21: users.password: found this and password_file; set one of them`},
		{"missing secret", `password = "{PLAIN}1"`, `password_file = "none"`, `config.toml:21: users.password_file: open none: no such file or directory; it must be a file that the gateway's user (uid 0) can read`},
		{"empty secret", `password = "{PLAIN}1"`, `password_file = "empty"`, `config.toml:21: users.password_file: the first line of empty is empty; it must hold the secret`},
		{"missing upstream secret", `name = "two"`, "name = \"two\"\nupstream_password_file = \"none\"", `config.toml:25: users.upstream_password_file: open none: no such file or directory; it must be a file that the gateway's user (uid 0) can read`},

		{"no such provider", `name = "two"`, "name = \"two\"\noauth = \"google\"", `config.toml:25: users.oauth: found "google"; there is no provider: add a table [oauth.google]`},
		{"another provider", "name = \"two\"\nadapter = \"office\"", "name = \"two\"\nadapter = \"office\"\noauth = \"google\"\n[oauth.microsoft]\nclient_id = \"x\"", `config.toml:26: users.oauth: found "google"; [oauth] has: microsoft`},
		{"provider of a route", `users = "*@example.org"`, "users = \"*@example.org\"\noauth = \"google\"", `config.toml:28: routes.oauth: found "google"; there is no provider: add a table [oauth.google]`},
		{"provider without a state", "name = \"two\"\nadapter = \"office\"", "name = \"two\"\npassword = \"{PLAIN}x\"\nadapter = \"office\"\noauth = \"google\"\n[oauth.google]\nclient_id = \"x\"", `config.toml: state.url: missing; users authorise the gateway at "google", and it must keep that somewhere`},
		{"tokens without a password", "name = \"two\"\nadapter = \"office\"", "name = \"two\"\nadapter = \"office\"\noauth = \"google\"\n[oauth.google]\nclient_id = \"x\"\n[state]\nurl = \"file:///tmp\"", `config.toml:23: users.password: user "two": it is missing, so that anybody could log in with the token: make a hash with "pop3gw passwd"`},
		{"provider that lacks all", "", "[oauth.here]\n", "config.toml:35: oauth.here.client_id: missing; it is what the provider calls the gateway, once that is registered there\n" +
			`config.toml:35: oauth.here.token_url: missing; set it, or preset = "google" or "microsoft"; "here" is no preset` + "\n" +
			"config.toml:35: oauth.here.scopes: missing; they are what the gateway asks the provider for"},
		{"no such grant", "", "[oauth.google]\ngrant = \"password\"\n", `config.toml:36: oauth.google.grant: found "password"; allowed are "user", "client_credentials", "service_account"`},
		{"unknown key of a provider", "", "[oauth.google]\nclient = \"x\"\n", `config.toml:36: oauth.google.client: unknown key; did you mean "client_id"?`},
		{"provider that is no table", "", "[oauth]\ngoogle = 1\n", `config.toml:36: oauth.google: found 1; wanted is one table, [oauth.google]`},
		{"tenant of another", "", "[oauth.google]\nclient_id = \"x\"\ntenant = \"y\"\n", `config.toml:37: oauth.google.tenant: found "y"; it is for preset = "microsoft" alone`},
		{"secret in two places", "", "[oauth.google]\nclient_id = \"x\"\nclient_secret = \"y\"\nclient_secret_file = \"secret\"\n", `config.toml:37: oauth.google.client_secret: found this and client_secret_file; set one of them`},
		{"no service account", "", "[oauth.google]\ngrant = \"service_account\"\nservice_account_file = \"none\"\n", `config.toml:37: oauth.google.service_account_file: open none: no such file or directory; it must be a file that the gateway's user (uid 0) can read`},
		{"address in clear text", "", "[oauth.google]\nclient_id = \"x\"\ntoken_url = \"http://id.example.org/\"\n", `config.toml:37: oauth.google.token_url: found "http://id.example.org/"; allowed is an address that begins with https://`},
		{"grant of nobody", `name = "two"`, "name = \"two\"\noauth_user = \"x\"", `config.toml:25: users.oauth_user: found "x" without oauth; add the name of a provider, or remove it`},
		{"key of no state", "", "[state]\nkey_file = \"x\"\n", `config.toml:36: state.key_file: found "x" without url; set url, or remove it`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := change(t, goodConfig, tt.old, tt.new)
			write(t, ".", "config.toml", text)
			_, stderr, code := pop3gw(t, "", "check", "--config", "config.toml")
			got := strings.TrimSuffix(uid.ReplaceAllString(stderr, "(uid 0)"), "\n")
			want := "pop3gw: " + strings.ReplaceAll(tt.want, "\n", "\npop3gw: ")
			if got != want || code != 2 {
				t.Errorf("exit code %d\ngot:\n%s\nwant:\n%s\nof:\n%s", code, got, want, text)
			}
		})
	}
}

// buildFile does all that serve does short of listening.
func buildFile(path string) error {
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	s, err := c.build(stores{}, newLogger(newSyncBuffer(), c.Log))
	if err != nil {
		return err
	}
	_, unreadable := c.checkPasswdFiles(s.accounts.current.directory)
	return unreadable
}

func TestUnreadablePasswdFile(t *testing.T) {
	configFolder(t)
	if err := os.Remove("users"); err != nil {
		t.Fatal(err)
	}
	const want = "config.toml:29: routes.passwd_file: reading passwd_file: stat users: no such file or directory"
	_, stderr, code := pop3gw(t, "", "serve", "--config", "config.toml")
	if code != 2 || stderr != "pop3gw: "+want+"\n" {
		t.Errorf("serve: exit code %d, %s", code, stderr)
	}
	out, _, code := pop3gw(t, "", "check", "--config", "config.toml")
	if code != 1 || !regexp.MustCompile(`(?m)^FAIL  passwd-file +`+regexp.QuoteMeta(want)+`$`).MatchString(out) {
		t.Errorf("check: exit code %d:\n%s", code, out)
	}
	// A line that is wrong hinders nobody else.
	write(t, ".", "users", "eve:{NOSUCH}x\nbob@example.org:{PLAIN}x\n")
	if err := buildFile("config.toml"); err != nil {
		t.Errorf("a wrong line: %v", err)
	}
	out, _, _ = pop3gw(t, "", "check", "--config", "config.toml")
	if !regexp.MustCompile(`(?m)^warn  passwd-file +users:1: `).MatchString(out) {
		t.Errorf("check does not tell the wrong line:\n%s", out)
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	configFolder(t)
	path, err := filepath.Abs("config.toml")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := buildFile(path); err != nil {
		t.Error(err)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	configFolder(t)
	hash, _, _ := pop3gw(t, "s3cret", "passwd")
	write(t, ".", "hash", hash)
	for _, tt := range []struct{ file, password string }{{"secret", "secret"}, {"hash", "s3cret"}} {
		write(t, ".", "config.toml", change(t, goodConfig, `password = "{PLAIN}1"`, `password_file = "`+tt.file+`"`))
		c, err := loadConfig("config.toml")
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.build(stores{}, newLogger(newSyncBuffer(), c.Log))
		if err != nil {
			t.Fatal(err)
		}
		for _, password := range []string{tt.password, tt.password + "x"} {
			_, err := s.accounts.Login(t.Context(), credentials("one", password))
			if right := password == tt.password; right != (err == nil) {
				t.Errorf("%s: %s: %v", tt.file, password, err)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct{ listener, adapter, want string }{
		{`address = "0.0.0.0:110"`, ``, `c.toml:1: listeners.cleartext_login: nobody can log in from another machine, since there is neither TLS nor "always" here`},
		{"address = \"0.0.0.0:110\"\ncleartext_login = \"always\"", ``, `c.toml:3: listeners.cleartext_login: passwords and mail may cross the network in clear text; set tls to "stls" or "implicit", or listen in a network that you trust alone`},
		{"address = \"[::1]:110\"\ncleartext_login = \"always\"", ``, ``},
		{"address = \"[::1]:110\"\nproxy_protocol_from = [\"::1\"]", ``, `c.toml:1: listeners.cleartext_login: nobody can log in through the balancer, since there is neither TLS nor "always" here`},
		{"address = \"[::1]:110\"\ncleartext_login = \"always\"\nproxy_protocol_from = [\"10.0.0.0/8\", \"0.0.0.0/0\"]", ``, `c.toml:4: listeners.proxy_protocol_from: everybody is trusted to say which address they have, against limits and logs; name your balancers alone`},
		{`address = "127.0.0.2:110"`, "address = \"imap.example.org\"\ntls = \"none\"", `c.toml:5: adapters.a.tls: passwords and mail cross the network to the IMAP server in clear text`},
		{`address = "localhost:110"`, "address = \"imap.example.org\"\ntls = \"starttls\"", ``},
		{`address = "localhost:110"`, "address = \"127.0.0.1:143\"\ntls = \"none\"", ``},
		{`address = "localhost:110"`, "address = \"[::1]\"\ntls = \"none\"", ``},
		{`address = "localhost:110"`, "address = \"localhost\"\ntls = \"none\"", ``},
	} {
		text := "[[listeners]]\n" + tt.listener + "\n[adapters.a]\n" + tt.adapter + "\ntype = \"imap\"\n[[routes]]\nusers = \"*\"\nadapter = \"a\"\n"
		c, err := parseConfig("c.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range c.warnings() {
			got = append(got, w.Error())
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s\ngives %q, want %q", text, got, tt.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	example, err := os.ReadFile("../../config.example.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{goodConfig, string(example), "[[adapters.a]]\n", "adapters = {a = {type = \"imap\"}}", "listeners = [{address = \":0\"}, 3]", "[[users]]\n[users.name]\n", "limits.\"a.b\" = 1979-05-27"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig("c.toml", []byte(text))
		for _, err := range flatten(err) {
			if !strings.HasPrefix(err.Error(), "c.toml:") {
				t.Errorf("an error that does not name the file: %v", err)
			}
		}
		if err == nil {
			c.warnings()
		}
	})
}

func TestMechanismWarnings(t *testing.T) {
	configFolder(t)
	text := change(t, goodConfig, `tls = "stls"`, "tls = \"stls\"\nmechanisms = [\"USER\", \"APOP\", \"XOAUTH2\"]")
	for _, tt := range []struct{ old, replacement, want string }{
		{"", "", ""},
		{"adapter = \"office\"\n[[routes]]", "adapter = \"files\"\npassword = \"{PLAIN}2\"\n[[routes]]", ""}, // the route is left
		{`password = "{PLAIN}1"`, `password = "$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11"`, ""},                     // the passwd-file is left
	} {
		c, err := parseConfig("config.toml", []byte(change(t, text, tt.old, tt.replacement)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.build(stores{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.mechanismWarnings(s.accounts.current.directory); len(got) != 0 {
			t.Errorf("%q: %v", tt.replacement, got)
		}
	}
	write(t, ".", "users", "bob@example.org:$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11\n")
	text = change(t, text, `password = "{PLAIN}1"`, `password = "$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11"`)
	text = change(t, text, "name = \"two\"\nadapter = \"office\"\n", "name = \"two\"\npassword = \"$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11\"\nadapter = \"files\"\n")
	text = change(t, text, "users = \"*\"\nadapter = \"office\"\n", "users = \"*\"\nadapter = \"files\"\npasswd_file = \"users\"\n")
	c, err := parseConfig("config.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.build(stores{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range c.mechanismWarnings(s.accounts.current.directory) {
		got = append(got, w.Error())
	}
	want := []string{
		"config.toml:5: listeners.mechanisms: APOP works for no user, and is not offered: it needs passwords stored as {PLAIN}",
		"config.toml:5: listeners.mechanisms: XOAUTH2 works for no user, and is not offered: it needs an IMAP adapter that checks the passwords itself",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}
