//go:build real

package conformance

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var (
	only = flag.String("only", "", "run the scenarios whose name contains this")
	all  = flag.Bool("all", false, "print passed checks too")
)

// fewest is the least number of checks in a whole run: a run that ended early
// or lost a scenario must not pass.
const fewest = 1500

// TestConformance judges pop3gw over both of its adapters. No MUST may fail,
// and at most three of the others.
func TestConformance(t *testing.T) {
	t.Run("maildir", func(t *testing.T) {
		w := newWorld(t)
		l := w.startGateway(t, fmt.Sprintf("type = \"maildir\"\npath = %q", w.mail+"/{user}"), fmt.Sprintf("passwd_file = %q", w.users), "")
		judge(t, w.gatewayTarget(t, l, w.maildir(t, reader)))
	})
	t.Run("imap", func(t *testing.T) {
		w := newWorld(t)
		upstream, _ := w.startDovecot(t, "imap")
		l := w.startGateway(t, fmt.Sprintf("type = \"imap\"\naddress = %q\ntls = \"none\"", upstream), "",
			fmt.Sprintf("upstream_user = %q\nupstream_password = %q", secret.Name, secret.Password))
		judge(t, w.gatewayTarget(t, l, &IMAPAccount{Address: upstream, Account: reader, Folder: w.maildir(t, reader)}))
	})
}

func (w *world) gatewayTarget(t *testing.T, l gatewayListeners, store Store) Target {
	return Target{
		Address: l.open, User: reader, Store: store, Other: other, Odd: odd,
		TLS: w.trusted, TLSAddress: l.implicit, NoCleartext: Endpoint{Address: l.strict},
		APOPAddress: l.apop, APOPUser: secret,
	}
}

func judge(t *testing.T, target Target) {
	t.Helper()
	report := perform(t, target)
	if n := len(report.Failed(MUST)); n > 0 {
		t.Errorf("%d checks fail that a POP3 server MUST pass", n)
	}
	if n := len(report.Failed(SHOULD)) + len(report.Failed(GOOD)); n > 3 {
		t.Errorf("%d of the other checks fail, 3 may", n)
	}
}

// perform runs the suite and prints what failed.
func perform(t *testing.T, target Target) Report {
	t.Helper()
	target.Progress = t.Logf
	report, err := Run(target, *only)
	var out strings.Builder
	if *all {
		report.WriteAll(&out)
	}
	report.Write(&out)
	fmt.Fprintf(os.Stdout, "%s:\n%s", t.Name(), out.String())
	if err != nil {
		t.Fatal(err)
	}
	if *only == "" && len(report) < fewest {
		t.Errorf("%d checks were made, at least %d expected", len(report), fewest)
	}
	return report
}

// deviations of Dovecot 2.3's POP3 server, one check for each cause.
var deviations = []string{
	// A first dot is sent as it is, so that the message ends at once and the
	// rest of it speaks for the server.
	"octets: first octet a dot: no line is lost, added or changed",
	"octets: two dots and CRLF: LIST has the octets of RETR",
	"octets: a dot and LF: RETR is +OK and ends in a dot line",
	"octets: first line a dot: TOP n 0 is the header and an empty line",
	"forged replies: RETR: replies forged behind a first octet that is a dot stay inside the message",
	"forged replies: TOP: replies forged behind a first CRLF dot line stay inside the message",
	// USER and SASL are announced in AUTHORIZATION only.
	"CAPA: what AUTHORIZATION announces TRANSACTION announces too",
	// The input is repeated in -ERR lines, whatever it holds and however long.
	"echo: 8-bit as \"RETR %s\" is answered in printable ASCII",
	"every reply: each has at most 512 octets",
	// A line ends at NUL.
	"numbers: DELE \"1\\x00\" is refused",
	"USER and PASS: PASS \"<password>\\x00\" is refused",
	// Arguments that a command does not have are overlooked.
	"extra arguments: STAT 1 is refused",
	"STLS: STLS now is refused, the session goes on in the clear",
	"AUTH PLAIN: a space inside as initial response is refused",
	"extra arguments: \"USER\" without its argument is refused",
	// The line end added to an unterminated message is not counted.
	"octets: LIST counts the line end that an unterminated message gets",
	"octets: so it has for unterminated messages",
	// There is no lock, unless it is configured.
	"lock: a second session of a maildrop is refused",
	"STLS: USER before STLS is forgotten",
}

// TestDeviations runs the suite against Dovecot's POP3 server and demands that
// it sees what is wrong there: checks that cannot fail would be worth nothing.
// What Dovecot is known to do right must pass.
func TestDeviations(t *testing.T) {
	w := newWorld(t)
	address, tlsAddress := w.startDovecot(t, "pop3")
	report := perform(t, Target{
		Address: address, User: reader, Store: w.maildir(t, reader), Other: other, Odd: odd,
		TLS: w.trusted, TLSAddress: tlsAddress, NoCleartext: Endpoint{Address: address, From: "127.0.0.2"},
	})
	failed := make(map[string]bool)
	for _, result := range report.Failures() {
		failed[result.Scenario+": "+result.Name] = true
	}
	for _, name := range deviations {
		if *only == "" && !failed[name] {
			t.Errorf("not seen: %s", name)
		}
	}
	for _, scenario := range []string{"listings", "empty maildrop", "UIDL", "TOP", "DELE", "UPDATE", "dropped connections", "TLS", "many messages"} {
		for _, result := range report.Failures() {
			if result.Scenario == scenario {
				t.Errorf("Dovecot fails %s: %s", scenario, result.Name)
			}
		}
	}
}
