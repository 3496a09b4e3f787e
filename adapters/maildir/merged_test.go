package maildir

import (
	"os"
	"strings"
	"testing"

	"pop3gw/gateway"
)

func TestMergedLocks(t *testing.T) {
	root := t.TempDir() + "/m"
	makeMaildir(t, root)
	makeMaildir(t, root+"/.Junk")
	write(t, root, "new/1.a", "one")
	write(t, root+"/.Junk", "new/1.a", "junk")
	names := gateway.Mailboxes{"INBOX", "Junk"}
	a := newAdapter(t, Options{Path: root, Folders: true, Policy: gateway.Policy{Mailboxes: &names}})
	account := gateway.Account{Name: "ann", Adapter: a}
	d, err := a.Open(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	first, second := string(d.AppendUID(nil, 0)), string(d.AppendUID(nil, 1))
	if first != "1.a" || second == first || !strings.HasPrefix(second, "1.a-") {
		t.Errorf("unique-ids are %q and %q", first, second)
	}
	junk := account
	junk.Folder = "Junk"
	for range 2 {
		if _, err := a.Open(t.Context(), junk); gateway.CodeOf(err) != gateway.CodeInUse {
			t.Errorf("Junk while the merged maildrop is open: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	alone := open(t, a, junk)
	if got := uids(alone); got[0] != "1.a" {
		t.Errorf("the unique-id in the folder alone is %q", got[0])
	}
	if _, err := a.Open(t.Context(), account); gateway.CodeOf(err) != gateway.CodeInUse {
		t.Errorf("the merged maildrop while Junk is open: %v", err)
	}
	closeMaildrop(t, alone)
	if err := os.RemoveAll(root + "/.Junk"); err != nil {
		t.Fatal(err)
	}
	_, err = a.Open(t.Context(), account)
	if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), "a folder of this maildrop does not exist") || !strings.Contains(err.Error(), `mailboxes: folder "Junk"`) {
		t.Errorf("a folder is missing: %v", err)
	}
}

// A client may type a folder in either encoding, and find it on disk in either.
func TestFolderEncodings(t *testing.T) {
	root := t.TempDir() + "/m"
	makeMaildir(t, root)
	makeMaildir(t, root+"/.Entw&APw-rfe")
	makeMaildir(t, root+"/.Gelöscht")
	makeMaildir(t, root+"/.R&-D.2026")
	write(t, root+"/.Entw&APw-rfe", "new/1.a", "encoded")
	write(t, root+"/.Gelöscht", "new/1.a", "plain")
	write(t, root+"/.R&-D.2026", "new/1.a", "ampersand")
	a := newAdapter(t, Options{Path: root, Folders: true})
	for folder, want := range map[string]string{
		"Entwürfe": "encoded", "Entw&APw-rfe": "encoded", "INBOX.Entwürfe": "encoded",
		"Gelöscht": "plain", "Gel&APY-scht": "plain",
		"R&D/2026": "ampersand", "R&-D.2026": "ampersand",
	} {
		d := open(t, a, gateway.Account{Name: "ann", Folder: folder})
		wantMessage(t, d, 0, want)
		closeMaildrop(t, d)
	}
	for folder, want := range map[string]string{
		"../x": "this is no name of a folder", "a/../../b": "this is no name of a folder", "/etc": "this is no name of a folder",
		"x&AC8-..": "this is no name of a folder", "Nö": "there is no such folder",
	} {
		_, err := a.Open(t.Context(), gateway.Account{Name: "ann", Folder: folder})
		if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", folder, err, want)
		}
	}
}
