package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// serialOf is the serial number of the certificate in a file.
func serialOf(t *testing.T, path string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".crt")+".key")
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.String()
}

// pairs are folders "a", "b" and "c" below the test's, each with a pair.
func pairs(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		writeTestCertificate(t, filepath.Join(dir, name))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// replace gives a file the content of another, as a new file that is renamed.
func replace(t *testing.T, path, from string) {
	t.Helper()
	overwrite(t, path+".new", from)
	must(t, os.Rename(path+".new", path))
}

// overwrite does the same in place.
func overwrite(t *testing.T, path, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(path, text, 0o600))
}

// relink makes a link lead elsewhere at once, as ln -sfn.
func relink(t *testing.T, path, to string) {
	t.Helper()
	must(t, os.Symlink(to, path+".new"))
	must(t, os.Rename(path+".new", path))
}

// certificatesOf reads pairs of a folder: "tls" first, for tls.crt and tls.key.
func certificatesOf(t *testing.T, dir string, names ...string) *certificates {
	t.Helper()
	config := &config{source: newSource("config.toml", nil)}
	for _, name := range names {
		config.TLS.Certificates = append(config.TLS.Certificates, pairConfig{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")})
	}
	c := new(certificates)
	pairs, err := config.certificatePairs(nil)
	must(t, err)
	c.use(pairs, false)
	return c
}

// watched is a pair in dir, with the log of what watches it.
func watched(t *testing.T, dir string, test func(c *certificates, hangup chan os.Signal, log *syncBuffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := certificatesOf(t, dir, "tls")
		ctx, cancel := context.WithCancel(t.Context())
		text, hangup := newSyncBuffer(), make(chan os.Signal, 1)
		log := slog.New(slog.NewTextHandler(text, nil))
		done := make(chan struct{})
		go func() { c.watch(ctx, hangup, func() { c.reload(log) }, log); close(done) }()
		test(c, hangup, text)
		cancel()
		<-done
	})
}

// serial is that of the certificate that handshakes get.
func (c *certificates) serial() string { return c.named.Load().all[0].Leaf.SerialNumber.String() }

func TestCertificateReplaced(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(dir string) (live string)
		replace func(live, dir string)
	}{
		{"renamed, as by Caddy", func(dir string) string { return filepath.Join(dir, "a") }, func(live, dir string) {
			replace(t, live+"/tls.key", dir+"/b/tls.key")
			time.Sleep(certificatePoll * 3 / 2) // one look finds files that are no pair
			replace(t, live+"/tls.crt", dir+"/b/tls.crt")
		}},
		{"written in place, as by lego", func(dir string) string { return filepath.Join(dir, "a") }, func(live, dir string) {
			overwrite(t, live+"/tls.crt", dir+"/b/tls.crt")
			overwrite(t, live+"/tls.key", dir+"/b/tls.key")
		}},
		{"links of certbot", func(dir string) string {
			live := filepath.Join(dir, "live")
			must(t, os.Mkdir(live, 0o700))
			relink(t, live+"/tls.crt", "../a/tls.crt")
			relink(t, live+"/tls.key", "../a/tls.key")
			return live
		}, func(live, dir string) {
			relink(t, live+"/tls.crt", "../b/tls.crt")
			relink(t, live+"/tls.key", "../b/tls.key")
		}},
		{"folder of Kubernetes", func(dir string) string {
			live := filepath.Join(dir, "live")
			must(t, os.Mkdir(live, 0o700))
			relink(t, live+"/..data", "../a")
			relink(t, live+"/tls.crt", "..data/tls.crt")
			relink(t, live+"/tls.key", "..data/tls.key")
			return live
		}, func(live, dir string) { relink(t, live+"/..data", "../b") }},
		{"missing for a while", func(dir string) string { return filepath.Join(dir, "a") }, func(live, dir string) {
			must(t, os.Remove(live+"/tls.key"))
			time.Sleep(certificatePoll * 3 / 2)
			replace(t, live+"/tls.crt", dir+"/b/tls.crt")
			overwrite(t, live+"/tls.key", dir+"/b/tls.key")
		}},
		{"folder emptied, as by the dumper for Traefik", func(dir string) string { return filepath.Join(dir, "a") }, func(live, dir string) {
			must(t, os.RemoveAll(live))
			time.Sleep(certificatePoll * 3 / 2)
			must(t, os.Mkdir(live, 0o755))
			overwrite(t, live+"/tls.crt", dir+"/b/tls.crt")
			time.Sleep(certificatePoll * 3 / 2)
			overwrite(t, live+"/tls.key", dir+"/b/tls.key")
		}},
		// With the same size and time of modification only a look within the
		// time that files have to settle can find it.
		{"without a trace", func(dir string) string { return filepath.Join(dir, "a") }, func(live, dir string) {
			replace(t, live+"/tls.crt", dir+"/c/tls.crt")
			replace(t, live+"/tls.key", dir+"/c/tls.key")
			time.Sleep(certificatePoll)
			info, err := os.Stat(live + "/tls.crt")
			must(t, err)
			overwrite(t, live+"/tls.crt", dir+"/b/tls.crt")
			must(t, os.Chtimes(live+"/tls.crt", time.Time{}, info.ModTime()))
			info, err = os.Stat(live + "/tls.key")
			must(t, err)
			overwrite(t, live+"/tls.key", dir+"/b/tls.key")
			must(t, os.Chtimes(live+"/tls.key", time.Time{}, info.ModTime()))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := pairs(t)
			live := tt.prepare(dir)
			old, want := serialOf(t, live+"/tls.crt"), serialOf(t, dir+"/b/tls.crt")
			watched(t, live, func(c *certificates, _ chan os.Signal, log *syncBuffer) {
				time.Sleep(time.Minute)
				if c.serial() != old || log.String() != "" {
					t.Fatalf("before the change: %s", log)
				}
				tt.replace(live, dir)
				time.Sleep(2 * certificatePoll)
				if c.serial() != want {
					t.Errorf("the new certificate is not in force; the log:\n%s", log)
				}
				time.Sleep(time.Minute)
				if s := log.String(); c.serial() != want || strings.Contains(s, "ERROR") || !strings.Contains(s, `msg="certificate replaced"`) {
					t.Errorf("the log:\n%s", s)
				}
			})
		})
	}
}

func TestCertificateKept(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(live, dir string)
		want  string // in the log, once
	}{
		{"another's key", func(live, dir string) { replace(t, live+"/tls.key", dir+"/b/tls.key") }, "private key does not match public key"},
		{"missing", func(live, dir string) { must(t, os.Remove(live+"/tls.key")) }, "set it to a PEM file that the gateway's user"},
		{"empty", func(live, dir string) { must(t, os.Truncate(live+"/tls.crt", 0)) }, "must be PEM files of one pair"},
		{"huge", func(live, dir string) { must(t, os.Truncate(live+"/tls.crt", 1<<40)) }, "has more than 1048576 octets"},
		{"FIFO", func(live, dir string) {
			must(t, os.Remove(live+"/tls.crt"))
			must(t, syscall.Mkfifo(live+"/tls.crt", 0o600))
		}, "is no regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := pairs(t)
			live := filepath.Join(dir, "a")
			old := serialOf(t, live+"/tls.crt")
			watched(t, live, func(c *certificates, hangup chan os.Signal, log *syncBuffer) {
				time.Sleep(time.Minute)
				tt.spoil(live, dir)
				time.Sleep(time.Minute)
				s := log.String()
				if c.serial() != old {
					t.Error("the old certificate is no longer in force")
				}
				if strings.Count(s, "level=ERROR") != 1 || !strings.Contains(s, tt.want) || !strings.Contains(s, "the one before stays in force") {
					t.Errorf("want one error with %q:\n%s", tt.want, s)
				}
				hangup <- syscall.SIGHUP // the operator asks again
				synctest.Wait()
				if s := log.String(); strings.Count(s, "level=ERROR") != 2 {
					t.Errorf("after SIGHUP:\n%s", s)
				}
				must(t, os.RemoveAll(live))
				must(t, os.Rename(filepath.Join(dir, "c"), live)) // mended
				time.Sleep(2 * certificatePoll)
				if c.serial() != serialOf(t, live+"/tls.crt") {
					t.Errorf("the mended pair is not in force:\n%s", log)
				}
				must(t, os.Remove(live+"/tls.key")) // a further change is a further error
				time.Sleep(time.Minute)
				if s := log.String(); strings.Count(s, "level=ERROR") != 3 {
					t.Errorf("after the next change:\n%s", s)
				}
			})
		})
	}
}

// What cannot be read for want of descriptors is read later, though the files
// do not change again.
func TestCertificateReadLater(t *testing.T) {
	dir := pairs(t)
	live := filepath.Join(dir, "a")
	pair := certificatesOf(t, live, "tls").pairs[0]
	pair.err = syscall.EMFILE
	pair.inForce = &tls.Certificate{Leaf: new(x509.Certificate)}
	if !pair.look(slog.New(slog.DiscardHandler)) || pair.leaf().SerialNumber.String() != serialOf(t, live+"/tls.crt") || pair.err != nil {
		t.Error("it was not read again")
	}
}

func TestCertificateExpired(t *testing.T) {
	dir := pairs(t)
	watched(t, filepath.Join(dir, "a"), func(c *certificates, _ chan os.Signal, log *syncBuffer) {
		for _, tt := range []struct {
			at   time.Duration
			want string
		}{
			{0, ""},
			{48 * time.Hour, "tls.crt expired on "},
			{-48 * time.Hour, "tls.crt is good only from "},
		} {
			err := c.pairs[0].valid(c.pairs[0].leaf().NotBefore.Add(time.Hour + tt.at))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v after it began: %v", tt.at, err)
			}
		}
	})
}

// TestServeReplacesCertificate goes through a process that serves: sessions and
// their TLS go on, new ones get the new certificate, TLS sessions are resumed.
func TestServeReplacesCertificate(t *testing.T) {
	p, dir, address := startServe(t)
	old := serialOf(t, dir+"/tls.crt")
	fresh := pairs(t)
	serial := func(c *client) string {
		c.do("+OK", "NOOP")
		return c.nc.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	insecure := &tls.Config{InsecureSkipVerify: true}
	resuming := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	connect := func(config *tls.Config) *client {
		c, _ := dial(t, address, nil)
		c.stls(config)
		c.do("+OK", "USER bob")
		return c
	}
	held := connect(insecure)
	held.do("+OK", "PASS secret")
	if got := serial(held); got != old {
		t.Fatalf("serial number %s, want %s", got, old)
	}
	connect(resuming).do("+OK", "QUIT")

	inForce := func(want string) {
		t.Helper()
		changed := time.Now()
		for {
			c := connect(insecure)
			c.do("+OK", "QUIT")
			got := c.nc.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
			if got == want {
				return
			}
			if time.Since(changed) > 10*time.Second {
				t.Fatalf("serial number %s, want %s; the log:\n%s", got, want, p.out)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	replace(t, dir+"/tls.crt", fresh+"/b/tls.crt")
	replace(t, dir+"/tls.key", fresh+"/b/tls.key")
	inForce(serialOf(t, fresh+"/b/tls.crt"))

	resumed := connect(resuming)
	if !resumed.nc.(*tls.Conn).ConnectionState().DidResume {
		t.Error("a TLS session was not resumed after the change")
	}
	resumed.do("+OK", "QUIT")

	must(t, p.Process.Signal(syscall.SIGHUP))
	replace(t, dir+"/tls.crt", fresh+"/c/tls.crt")
	p.out.find(t, `level=ERROR msg="the certificate was not replaced.*private key does not match public key.*must be PEM files of one pair`)
	inForce(serialOf(t, fresh+"/b/tls.crt"))
	replace(t, dir+"/tls.key", fresh+"/c/tls.key")
	inForce(serialOf(t, fresh+"/c/tls.crt"))

	if got := serial(held); got != old {
		t.Errorf("the session that was open has %s", got)
	}
	held.do("+OK", "DELE 1")
	held.do("+OK", "QUIT")
	if n := countFiles(t, dir+"/bob/new"); n != 4 {
		t.Errorf("%d messages are left, want 4", n)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.out)
	}
}
