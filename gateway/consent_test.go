package gateway_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// Who has the right password, and lacks somebody's consent, is not one who
// guesses: there is no delay, and no end of the connection.
func TestConsentIsNoGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing := gateway.Unauthorised("authorise again", errors.New("run something"))
		c := newRig(t, &maildroptest.Faults{Adapter: memory(), OpenErr: missing}, gateway.Limits{}).connect()
		start := time.Now()
		for range 20 {
			c.send("USER alice\r\nPASS right\r\n")
			c.want("+OK send PASS")
			c.want("-ERR [AUTH] authorise again")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		if !errors.Is(missing, gateway.ErrConsent) || gateway.CodeOf(missing) != gateway.CodeAuth {
			t.Errorf("%v", missing)
		}
	})
}
