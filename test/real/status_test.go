//go:build real

package real

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// writeExpired writes a certificate that nobody takes any more, and its key.
func writeExpired(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	certificate, key = filepath.Join(dir, "expired.pem"), filepath.Join(dir, "expired-key.pem")
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	leaf := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "old.example.org"},
		DNSNames: []string{"old.example.org"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}
	writePEM(certificate, "CERTIFICATE", must(x509.CreateCertificate(rand.Reader, leaf, leaf, &private.PublicKey, private)))
	writePEM(key, "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(private)))
	check(os.Chown(key, mailUID, mailUID))
	return certificate, key
}

// hostile are names that clients try to log in with.
var hostile = []string{
	`<script>document.title="taken"</script>`,
	`"><img src=x onerror=alert(1)>`,
	"\u202egnp.exe",
	strings.Repeat("w", 200),
}

// shownHostile is what the page makes of them.
var shownHostile = []string{hostile[0], hostile[1], `"\u202egnp.exe"`, "www…"}

// An operator sees who is connected in a real browser, among more sessions than the
// page has rows, and ends one. The page is asked for over plain HTTP by a name, as from
// another machine: browsers then do not say of a form whose it is but by its origin.
func TestStatusPage(t *testing.T) {
	m := newMaildirs(t)
	m.deliver(t, "alice", letters(3)...)
	port, down := freePort(t), freePort(t)
	certificate, key := writeExpired(t, folder(t))
	g := startGateway(t, m, fmt.Sprintf(`
[[tls.certificates]]
certificate = %q
key = %q

[adapters.office]
type = "imap"
address = %q
tls = "none"

[admin]
address = %q

[limits]
login_failure_delay = "1ms"
max_login_failures = 1000
`, certificate, key, loopback(down), loopback(port)))
	for _, name := range hostile {
		c, err := dialPOP3(g.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		if line, err := c.command("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+name+"\x00wrong"))); err == nil {
			t.Errorf("%q gets %q", name, line)
		}
	}
	for _, s := range screens {
		t.Run(s.name, func(t *testing.T) {
			reader := login(t, g.addr(), "alice")
			reader.must(t, "STAT")
			b := startBrowser(t, s, chromedp.Flag("host-resolver-rules", "MAP pop.example.org 127.0.0.1"))
			page := fmt.Sprintf("http://pop.example.org:%d/?refresh=off", port)
			b.run(chromedp.Navigate(page), see(".sessions"))
			b.look("status", append([]string{"pop.example.org", "alice", "office", "not reached", "refused", "old.example.org", "expired"}, shownHostile...)...)

			for range 200 {
				c, err := dialPOP3(g.addr())
				if err != nil {
					t.Fatal(err)
				}
				defer c.conn.Close()
			}
			b.run(chromedp.Navigate(page), see(".sessions"))
			b.fits("crowd", "200 of 205 are shown")
			b.run(chromedp.Navigate(page+"&q=alice"), see(".kick button"))
			b.look("found", "1 of 205", "alice")
			b.run(click(".kick button"), see(".sessions tbody tr:nth-child(200)")) // the page that follows, whole again: a browser still on its way takes no other
			if line, err := reader.reply(); err == nil || !strings.Contains(line+err.Error(), "ended by the operator") {
				t.Errorf("the client got %q, %v", line, err)
			}
			b.run(chromedp.Navigate(page+"&q=alice"), see("header"))
			b.look("ended", "0 of 204", "None is like that.")
		})
	}
}
