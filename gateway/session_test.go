package gateway_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"testing/synctest"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// memoryFixture is a store in memory, for the scripts and the suite.
func memoryFixture(*testing.T) maildroptest.Fixture {
	memory := new(maildroptest.Memory)
	accounts := 0
	add := func(_ testing.TB, account gateway.Account, message []byte) {
		sum := sha256.Sum256(message)
		memory.Add(account.Name, maildroptest.Message{UID: hex.EncodeToString(sum[:8]), Raw: message})
	}
	return maildroptest.Fixture{
		Adapter: memory,
		Exact:   true,
		Create: func(t testing.TB, messages [][]byte) gateway.Account {
			accounts++
			account := gateway.Account{Name: fmt.Sprintf("account%d", accounts), Adapter: memory}
			memory.Add(account.Name)
			for _, m := range messages {
				add(t, account, m)
			}
			return account
		},
		Add: add,
		Remove: func(t testing.TB, account gateway.Account, i int) {
			if !memory.Remove(account.Name, memory.Messages(account.Name)[i].UID) {
				t.Fatalf("there is no message %d", i)
			}
		},
		List: func(_ testing.TB, account gateway.Account) [][]byte {
			var raw [][]byte
			for _, m := range memory.Messages(account.Name) {
				raw = append(raw, m.Raw)
			}
			return raw
		},
	}
}

func TestSession(t *testing.T) {
	for _, s := range maildroptest.Scripts(t) {
		t.Run(s.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.Run(t, memoryFixture(t)) })
		})
	}
}
