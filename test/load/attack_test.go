//go:build real

package load

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pop3gw/gateway/account"
)

// TestLoginUnderAttack logs in while many addresses guess passwords, of that user
// and of others, each as fast as it gets answers, on several connections. Each
// guess costs the gateway an argon2id hash.
func TestLoginUnderAttack(t *testing.T) {
	attack(t, startGateway(t, attacked(t), ""), 0, false)
}

// TestLoginUnderAttackBehindIMAP has a Dovecot check the passwords, which holds each
// refusal back for two seconds.
func TestLoginUnderAttackBehindIMAP(t *testing.T) {
	attack(t, startGatewayBefore(t, startDovecot(t)), 2*time.Second, false)
}

// TestLoginAmongConnections has fewer max_connections than the attackers have, who come
// again and again, and of whom some only connect.
func TestLoginAmongConnections(t *testing.T) {
	max := 300
	if full {
		max = 2000
	}
	attack(t, startGateway(t, attacked(t), fmt.Sprintf("max_connections = %d\n", max)), 0, true)
}

// attacked are the users whose passwords are guessed, with hashes.
func attacked(t *testing.T) map[string]string {
	t.Helper()
	hash, err := account.Hash([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]string{"known": hash}
	for i := range 100 {
		users[fmt.Sprint("user", i)] = hash
	}
	return users
}

// attack attacks g. Where an IMAP server checks the password, held is for how long it
// holds a place before it refuses: a user who comes for the first time to a name under
// attack may have to wait for one. churning attackers have a connection for each guess, and some
// connections for none.
func attack(t *testing.T, g *gateway, held time.Duration, churning bool) {
	addresses, lasts := 200, 10*time.Second
	if full {
		addresses, lasts = 1000, 40*time.Second
	}
	const perAddress = 3
	if err := session("127.2.0.1", g.plain, false, "known", "secret"); err != nil {
		t.Fatal(err)
	}
	// What the first login of a user takes without an attack: its hash, mostly.
	begin := time.Now()
	if err := session("127.2.0.2", g.plain, false, "user99", "secret"); err != nil {
		t.Fatal(err)
	}
	quiet := time.Since(begin)
	most := time.Second
	if !full { // the machine may be busy with other things
		most += 4 * quiet
	}

	var guesses, refused atomic.Int64
	var over atomic.Bool
	var attackers sync.WaitGroup
	for i := range addresses {
		from := fmt.Sprintf("127.1.%d.%d", i/250, i%250+1)
		for k := range perAddress {
			attackers.Go(func() {
				for n := 0; !over.Load(); {
					c, err := dial(from, g.plain, false)
					if err != nil {
						time.Sleep(100 * time.Millisecond)
						continue
					}
					if churning && (i+n)%3 == 0 {
						n++
						c.nc.SetDeadline(time.Now().Add(time.Second))
						io.Copy(io.Discard, c.in)
						c.nc.Close()
						continue
					}
					for first := n; !over.Load() && (n == first || !churning); n++ {
						c.nc.SetDeadline(time.Now().Add(2 * time.Second)) // an attacker does not wait for long
						name := fmt.Sprint("user", (i+k+n)%120)           // some do not exist
						if n%3 == 0 {
							name = "known"
						}
						if _, err := c.command("USER " + name); err != nil {
							break
						}
						answer, err := c.command(fmt.Sprintf("PASS guess%d.%d", k, n))
						guesses.Add(1)
						if strings.Contains(answer, "[SYS/TEMP]") {
							refused.Add(1)
						}
						if err != nil || strings.HasPrefix(answer, "+OK") {
							break
						}
					}
					c.nc.Close()
				}
			})
		}
	}
	start := time.Now()
	time.Sleep(4 * time.Second) // by then all have come, and have failed or given up once
	worst, logins := time.Duration(0), 0
	measure := func(what, from, user string, most time.Duration) {
		begin := time.Now()
		st, err := timedSession(from, g.plain, false, user, "secret")
		took := st.ended
		if err != nil || took > most {
			t.Errorf("%s, %v after the attack began: %v (connected after %v, logged in after %v), %v", what, begin.Sub(start).Round(time.Millisecond),
				took.Round(time.Millisecond), st.connected.Round(time.Millisecond), st.loggedIn.Round(time.Millisecond), err)
		}
		worst, logins = max(worst, took), logins+1
	}
	for i := 0; time.Since(start) < lasts; i++ {
		measure("a user who has been there before", "127.2.0.1", "known", most)
		measure("a user who comes for the first time", fmt.Sprintf("127.2.1.%d", i%250+1), fmt.Sprint("user", i%99), most+held)
		measure("the attacked name, from a new address", fmt.Sprintf("127.2.2.%d", i%250+1), "known", most+held)
		time.Sleep(300 * time.Millisecond)
	}
	over.Store(true)
	now, peak := g.memory(t)
	attackers.Wait()
	t.Logf("%d addresses with %d connections each made %d attempts in %v, of which %d were refused unseen: %d correct logins took %v at most, and one without the attack %v; memory %d MB, %d MB at most",
		addresses, perAddress, guesses.Load(), time.Since(start).Round(time.Second), refused.Load(), logins, worst.Round(time.Millisecond), quiet.Round(time.Millisecond), now/mega, peak/mega)
	if guesses.Load() < int64(addresses) {
		t.Errorf("only %d guesses: this was no attack", guesses.Load())
	}
	if lines := g.errorsInLog(t); len(lines) > 0 {
		t.Errorf("errors in the log: %q", lines)
	}
}
