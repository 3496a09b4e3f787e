package gateway_test

import (
	"testing"
	"testing/synctest"

	"pop3gw/gateway/maildroptest"
)

func TestSession(t *testing.T) {
	for _, s := range maildroptest.Scripts(t) {
		t.Run(s.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.Run(t, maildroptest.NewMemory(t)) })
		})
	}
}
