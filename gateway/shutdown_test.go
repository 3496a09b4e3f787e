package gateway_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory(sample, sample)
		faults := &maildroptest.Faults{Adapter: store, RetrieveDelay: 20 * time.Second, DeleteDelay: 25 * time.Second}
		r := newRig(t, faults, gateway.Limits{})
		for _, name := range []string{"bob", "carol"} {
			store.Add(name, maildroptest.Message{UID: "1", Raw: []byte(sample)})
		}
		idle, busy, updating := r.logIn("alice"), r.logIn("bob"), r.logIn("carol")
		idle.send("DELE 1\r\n")
		idle.line()
		busy.send("DELE 1\r\nRSET\r\nRETR 1\r\n")
		updating.send("DELE 1\r\nQUIT\r\n")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		r.server.Shutdown(ctx)
		if took := time.Since(start); took < 25*time.Second || took > 27*time.Second {
			t.Errorf("Shutdown took %v: removals that began are awaited", took)
		}
		if got := idle.rest(); got != "-ERR [SYS/TEMP] server is shutting down, nothing was removed\r\n" {
			t.Errorf("idle session got %q", got)
		}
		if got := busy.rest(); !strings.Contains(got, "+OK 20 octets\r\n"+sample+".\r\n-ERR [SYS/TEMP] server is shutting down") {
			t.Errorf("busy session got %q", got)
		}
		if len(store.Messages("alice")) != 2 || len(store.Messages("bob")) != 1 || len(store.Messages("carol")) != 0 {
			t.Errorf("left: %d, %d, %d", len(store.Messages("alice")), len(store.Messages("bob")), len(store.Messages("carol")))
		}
		if _, err := r.listener.Dial(); err == nil {
			t.Error("a client was accepted after Shutdown")
		}
	})
}

// A removal that outlasts Shutdown's patience ends where it is, and its client is told
// so: what waits for the gateway to end would kill it.
func TestShutdownEndsRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory(sample, sample)
		r := newRig(t, &maildroptest.Faults{Adapter: store, DeleteDelay: 40 * time.Second}, gateway.Limits{})
		c := r.logIn("alice")
		c.send("DELE 1\r\nDELE 2\r\nQUIT\r\n")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		if err := r.server.Shutdown(ctx); err == nil {
			t.Error("Shutdown says that all ended by itself")
		}
		if took := time.Since(start); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		if got := c.rest(); !strings.HasSuffix(got, "\r\n-ERR [SYS/TEMP] 2 of 2 messages were not removed: server is shutting down\r\n") {
			t.Errorf("the client got %q", got)
		}
		if n := len(store.Messages("alice")); n != 2 {
			t.Errorf("%d messages are left, want 2", n)
		}
	})
}

// A login does not keep Shutdown waiting, whether the store is slow or the
// answer to a refused one is held back.
func TestShutdownDuringLogin(t *testing.T) {
	for _, tt := range []struct{ name, password, want string }{
		{"slow store", "x", "+OK send PASS\r\n-ERR [SYS/TEMP] server is shutting down, nothing was removed\r\n"},
		{"refused", "wrong", "+OK send PASS\r\n-ERR [AUTH] wrong name or password\r\n-ERR [SYS/TEMP] server is shutting down, nothing was removed\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, &maildroptest.Faults{Adapter: memory(), OpenDelay: time.Minute}, gateway.Limits{LoginFailureDelay: time.Minute})
				c := r.connect()
				c.send("USER alice\r\nPASS " + tt.password + "\r\n")
				synctest.Wait()
				start := time.Now()
				go func() {
					if got := c.rest(); got != tt.want {
						t.Errorf("got %q, want %q", got, tt.want)
					}
					c.nc.Close()
				}()
				if err := r.server.Shutdown(t.Context()); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("Shutdown took %v", took)
				}
			})
		})
	}
}

// A command that hangs in the store ends with its connection when Shutdown's
// patience does.
func TestShutdownCutsCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &maildroptest.Faults{Adapter: memory(sample), RetrieveDelay: time.Hour}, gateway.Limits{})
		r.logIn("alice").send("RETR 1\r\n")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		r.server.Shutdown(ctx)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}

// A client in the middle of its TLS handshake did nothing wrong.
func TestShutdownDuringHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory(), gateway.Limits{})
		config := &tls.Config{Certificates: []tls.Certificate{maildroptest.Certificate(t)}}
		l := maildroptest.NewListener()
		go r.server.Serve(l, gateway.ListenerOptions{TLS: config, Implicit: true})
		nc, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		synctest.Wait()
		r.server.Shutdown(t.Context())
		if log := r.log.String(); !strings.Contains(log, `ended="server shutdown"`) || strings.Contains(log, "TLS failed") {
			t.Errorf("the log is\n%s", log)
		}
	})
}
