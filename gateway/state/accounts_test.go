package state

import (
	"slices"
	"testing"
	"time"
)

func TestAccounts(t *testing.T) {
	dir := t.TempDir()
	db, _ := openState(t, dir)
	accounts := db.Accounts()
	if _, ok, err := accounts.Get(t.Context(), "jane@example.org"); ok || err != nil {
		t.Errorf("an account before any was kept: %v, %v", ok, err)
	}
	jane := Account{Name: "jane@example.org", Upstream: "Jane@example.org", Password: "{SCRAM-SHA-256}...", Provider: "microsoft",
		Issuer: "https://login.example", Subject: "1", Changed: time.Unix(1_800_000_000, 0)}
	adam := Account{Name: "adam@example.org", Upstream: "adam@example.org", Password: "$argon2id$...", Provider: "google", Changed: time.Unix(1, 0)}
	again := jane
	again.Password, again.Changed = "{SCRAM-SHA-256}other", time.Unix(1_800_000_001, 0)
	for _, a := range []Account{jane, adam, again} {
		if kept, err := accounts.Put(t.Context(), a, []byte("token of "+a.Password)); !kept || err != nil {
			t.Fatal(kept, err)
		}
	}
	// Somebody else's is not replaced, nor its token.
	for _, other := range []Account{{Name: jane.Name, Issuer: jane.Issuer, Subject: "2"}, {Name: jane.Name, Issuer: "https://other.example", Subject: "1"}} {
		if kept, err := accounts.Put(t.Context(), other, []byte("another token")); kept || err != nil {
			t.Errorf("%+v: kept %v, %v", other, kept, err)
		}
	}
	if value, revision, err := db.Tokens().Load(t.Context(), jane.Name); string(value) != "token of "+again.Password || revision == 0 || err != nil {
		t.Errorf("the token is %q, revision %d, %v", value, revision, err)
	}
	db.Close()
	db, _ = openState(t, dir)
	accounts = db.Accounts()
	if got, ok, err := accounts.Get(t.Context(), jane.Name); !ok || err != nil || got != again {
		t.Errorf("%+v, %v, %v; want %+v", got, ok, err, again)
	}
	if all, err := accounts.List(t.Context()); err != nil || !slices.Equal(all, []Account{adam, again}) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, want := range []bool{true, false} {
		if found, err := accounts.Delete(t.Context(), jane.Name); found != want || err != nil {
			t.Errorf("deleted: %v, %v; want %v", found, err, want)
		}
	}
	if all, err := accounts.List(t.Context()); err != nil || !slices.Equal(all, []Account{adam}) {
		t.Errorf("%+v, %v", all, err)
	}
}
