package gateway_test

import (
	"strings"
	"testing"
	"time"

	"pop3gw/gateway"
)

func TestAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "never": -1, "1d": 24 * time.Hour, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "36h": 36 * time.Hour, "90m": 90 * time.Minute,
	} {
		var a gateway.Age
		if err := a.UnmarshalText([]byte(text)); err != nil || time.Duration(a) != want {
			t.Errorf("%q is %v, %v; want %v", text, time.Duration(a), err, want)
		}
	}
	for _, text := range []string{"0", "0d", "30", "d", "-1d", "1.5d", "1y", "99999d", "-1h", "0s", " 1d", "Never"} {
		var a gateway.Age
		if err := a.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "allowed") {
			t.Errorf("%q is %v, %v", text, time.Duration(a), err)
		}
	}
}

func TestPolicyOr(t *testing.T) {
	all := &gateway.Window{}
	adapter := gateway.Policy{OnDelete: gateway.KeepOnDelete, TrashMailbox: "Bin", Window: &gateway.Window{MaxMessages: 3}}
	got := gateway.Policy{OnRetrieve: gateway.SeenOnRetrieve, Window: all}.Or(adapter).Or(gateway.DefaultPolicy())
	if got.OnDelete != gateway.KeepOnDelete || got.OnRetrieve != gateway.SeenOnRetrieve || got.TrashMailbox != "Bin" || got.Window != all {
		t.Errorf("%+v", got)
	}
}
