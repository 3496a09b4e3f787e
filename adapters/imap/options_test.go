package imap

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

func TestOptions(t *testing.T) {
	var o Options
	meta, err := toml.Decode(`
		address = "imap.example.org"
		tls = "starttls"
		server_name = "mail.example.org"
		connect_timeout = "5s"
		response_timeout = "7s"
		prefetch = "512KB"
		keep_connections = "0s"
		max_kept_connections = 3
		send_client_address = true
		max_connections = 5
		max_connections_per_user = 4
		mailbox = "Scans"
		folders = true
		on_delete = "move"
		trash_mailbox = "Bin"
		on_retrieve = "seen"
		uidl = "dovecot"
		without_uidplus = "refuse"
		master_user = "root"
		master_password = "toor"
		master_password_file = "/run/secrets/master"
		master_separator = "%"`, &o)
	if err != nil {
		t.Fatal(err)
	}
	if undecoded := meta.Undecoded(); len(undecoded) > 0 {
		t.Errorf("unknown keys: %v", undecoded)
	}
	want := Options{
		Address: "imap.example.org:143", TLS: StartTLS, ServerName: "mail.example.org",
		ConnectTimeout: 5 * time.Second, ResponseTimeout: 7 * time.Second, Prefetch: 512 << 10, KeepConnections: Never, MaxKeptConnections: 3, SendClientAddress: true, MaxConnections: 5, MaxConnectionsPerUser: 4,
		Mailbox: "Scans", Folders: true,
		Policy: gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "Bin", OnRetrieve: gateway.SeenOnRetrieve, Mailboxes: new(gateway.Mailboxes), Window: new(gateway.Window), ExpireAfter: gateway.Never}, UIDL: "dovecot", WithoutUIDPLUS: Refuse,
		MasterUser: "root", MasterPassword: "toor", MasterPasswordFile: "/run/secrets/master", MasterSeparator: "%",
	}
	if o, err = o.complete(); err != nil || !reflect.DeepEqual(o, want) {
		t.Errorf("got %+v, %v", o, err)
	}
	l, err := o.link()
	if err != nil || l.TLS != link.StartTLS || l.TLSConfig.ServerName != "mail.example.org" || l.TLSConfig.InsecureSkipVerify {
		t.Errorf("got %+v, %v", l, err)
	}

	defaults, err := Options{Address: "imap.example.org"}.complete()
	if err != nil || !reflect.DeepEqual(defaults, Options{
		Address: "imap.example.org:993", TLS: Implicit, Prefetch: 16 << 20, KeepConnections: Period(15 * time.Minute), MaxKeptConnections: 256, MaxConnectionsPerUser: 10, Mailbox: "INBOX", Policy: gateway.DefaultPolicy(),
		UIDL: "dovecot", WithoutUIDPLUS: Refuse, MasterSeparator: "*",
	}) {
		t.Errorf("defaults are %+v, %v", defaults, err)
	}
}

func TestOctets(t *testing.T) {
	for text, want := range map[string]Octets{"0": None, "1KB": 1024, "16MB": 16 << 20, "2147483647MB": 2147483647 << 20} {
		var o Octets
		if err := o.UnmarshalText([]byte(text)); err != nil || !reflect.DeepEqual(o, want) {
			t.Errorf("%s is %d, %v; want %d", text, o, err, want)
		}
	}
	for _, text := range []string{"", "16", "MB", "0MB", "-1MB", "1.5MB", "1 MB", "1GB", "1KMB", "KB1", "1BM", "99999999999MB"} {
		var o Octets
		if err := o.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), `"16MB"`) {
			t.Errorf("%q is %d, %v", text, o, err)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{"mail:143", "mail:143"},
		{"mail", "mail:993"},
		{"192.0.2.1", "192.0.2.1:993"},
		{"2001:db8::1", "[2001:db8::1]:993"},
		{"[2001:db8::1]", "[2001:db8::1]:993"},
		{"[2001:db8::1]:143", "[2001:db8::1]:143"},
		{"", ""},
		{":993", ""},
		{"mail:", ""},
		{"mail:imap", ""},
		{"mail:0", ""},
		{"mail:65536", ""},
		{"imaps://mail:993", ""},
		{"mail server", ""},
		{"a:b:c", ""},
	} {
		got, err := address(tt.address, Implicit)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("address(%q) = %q, %v; want %q", tt.address, got, err, tt.want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		toml string
		want string
	}{
		{``, `address: found ""`},
		{`address = "m:x"`, `address: found "m:x"; allowed are a host and a port, such as "imap.example.org:993"`},
		{`tls = "ssl"`, `found "ssl"; allowed are "none", "starttls", "implicit"`},
		{`on_delete = "trash"`, `found "trash"; allowed are "expunge", "move", "seen", "keep"`},
		{`on_retrieve = "delete"`, `found "delete"; allowed are "keep", "seen"`},
		{`uidl = "%v"`, `found "%v", which gives all messages one name`},
		{`uidl = "qmail"`, `found "qmail", which needs file names; only adapters of type "maildir" have them`},
		{`uidl = "pop3"`, `found "pop3"; allowed are "dovecot", "courier", "cyrus", "uw"`},
		{`without_uidplus = "expunge"`, `found "expunge"; allowed are "refuse", "guarded"`},
		{"address = 'm'\nmailbox = \"a\\nb\"", `mailbox: found "a\nb"`},
		{"address = 'm'\ntrash_mailbox = \"a\\u0000\"", `trash_mailbox: found`},
		{"address = 'm'\nconnect_timeout = '-1s'", `connect_timeout: found "-1s"`},
		{"address = 'm'\nresponse_timeout = '-1s'", `response_timeout: found "-1s"`},
		{`keep_connections = "-1m"`, `found "-1m"; allowed are "0s" and times such as "15m"`},
		{`keep_connections = "15"`, `found "15"`},
		{"address = 'm'\nmax_kept_connections = -1", `max_kept_connections: found -1`},
		{"address = 'm'\nmax_connections = -1", `max_connections: found -1; allowed are 0`},
		{"address = 'm'\nmax_connections_per_user = -1", `max_connections_per_user: found -1; allowed are numbers above 0`},
		{"address = 'm'\nmaster_user = 'root'", `master_password: found none`},
		{"address = 'm'\nmaster_password = 'toor'", `master_user: found none`},
		{"address = 'm'\ntls = 'none'\nca_file = 'x'", `tls: found "none"`},
		{"address = 'm'\nca_file = '/does/not/exist'", `ca_file: open /does/not/exist`},
		{"address = 'm'\nca_file = '" + empty + "'", `ca_file: found no certificate in ` + empty},
	} {
		var o Options
		_, err := toml.Decode(tt.toml, &o)
		if err == nil {
			_, err = New(o, new(gateway.Locks), nil, nil)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.toml, err, tt.want)
		}
	}
	// Values that were not decoded are checked as well.
	if _, err := New(Options{Address: "m", Policy: gateway.Policy{OnDelete: "shred"}}, nil, nil, nil); err == nil || err.Error() != `on_delete: found "shred"; allowed are "expunge", "move", "seen", "keep"` {
		t.Errorf("got %v", err)
	}
}
