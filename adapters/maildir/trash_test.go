package maildir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pop3gw/gateway"
)

// policyMaildrop opens the Maildir in root, whose adapter has this policy.
func policyMaildrop(t *testing.T, root string, p gateway.Policy, folder string) *drop {
	t.Helper()
	a := newAdapter(t, Options{Path: root, Folders: true, Policy: p})
	d := open(t, a, gateway.Account{Name: "ann", Adapter: a, Folder: folder})
	t.Cleanup(func() {
		if d.d.folder.dir != noDir {
			d.Close()
		}
	})
	return d
}

var toTrash = gateway.Policy{OnDelete: gateway.MoveToTrash}

func sortedFiles(t *testing.T, maildir string) string {
	t.Helper()
	names := files(t, maildir)
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestMoveToTrash(t *testing.T) {
	root := t.TempDir() + "/m"
	trash := root + "/.Trash"
	makeMaildir(t, root)
	makeMaildir(t, trash)
	write(t, root, "new/1.a,S=3", "one")
	write(t, root, "cur/2.b:2,F", "two")
	write(t, root, "cur/3.c", "three")
	write(t, root, "cur/4.d:2,", "four")
	write(t, trash, "cur/4.d:2,", "another")
	if err := os.Link(root+"/cur/2.b:2,F", root+"/new/2.b"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/maildirsize", []byte("100S\n20 4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := policyMaildrop(t, root, gateway.Policy{OnDelete: gateway.MoveToTrash, OnRetrieve: gateway.SeenOnRetrieve}, "")
	wantMessage(t, d, 2, "three")
	var removed []int
	if err := d.Delete(t.Context(), []int{0, 1, 2, 3}, func(i int) {
		removed = append(removed, i)
		if o := d.Outcome(i); o != (gateway.Outcome{Fate: gateway.Moved, To: "Trash"}) {
			t.Errorf("message %d: %+v", i, o)
		}
	}); err != nil || len(removed) != 4 {
		t.Fatalf("Delete reported %v, %v", removed, err)
	}
	if got := sortedFiles(t, root); got != "" {
		t.Errorf("left is %s", got)
	}
	got := sortedFiles(t, trash)
	for _, want := range []string{"cur/1.a,S=3:2,", "cur/2.b:2,", "cur/3.c:2,S", "cur/4.d:2,"} {
		if !slices.ContainsFunc(files(t, trash), func(name string) bool { return strings.TrimRight(name, "F") == want }) {
			t.Errorf("in the trash is %s, want %s", got, want)
		}
	}
	if n := len(files(t, trash)); n != 5 {
		t.Errorf("%d files are in the trash: %s", n, got)
	}
	for _, name := range files(t, trash) {
		raw, err := os.ReadFile(filepath.Join(trash, name))
		if err != nil {
			t.Fatal(err)
		}
		if other := strings.HasPrefix(name, "cur/4.d"); other != (string(raw) == "another") {
			t.Errorf("%s holds %q", name, raw)
		}
	}
	quota, err := os.ReadFile(root + "/maildirsize")
	if want := "100S\n20 4\n-15 -4\n"; err != nil || string(quota) != want {
		t.Errorf("the quota file says %q, want %q", quota, want)
	}
}

func TestMoveElsewhere(t *testing.T) {
	root := t.TempDir() + "/m"
	makeMaildir(t, root)
	makeMaildir(t, root+"/.Old.Mail")
	write(t, root, "new/1.a", "one")
	if err := os.WriteFile(root+"/maildirsize", []byte("100S\n3 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := policyMaildrop(t, root, gateway.Policy{OnDelete: gateway.MoveToTrash, TrashMailbox: "Old/Mail"}, "")
	if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if got := sortedFiles(t, root+"/.Old.Mail"); got != "cur/1.a:2," {
		t.Errorf("there is %s", got)
	}
	// The quota counts it as before.
	if quota, err := os.ReadFile(root + "/maildirsize"); err != nil || string(quota) != "100S\n3 1\n" {
		t.Errorf("the quota file says %q", quota)
	}
}

// What is in the trash goes for good.
func TestDeleteInTrash(t *testing.T) {
	root := t.TempDir() + "/m"
	makeMaildir(t, root)
	makeMaildir(t, root+"/.Trash")
	write(t, root+"/.Trash", "new/1.a", "one")
	d := policyMaildrop(t, root, toTrash, "Trash")
	if err := d.Delete(t.Context(), []int{0}, func(i int) {
		if o := d.Outcome(i); o != (gateway.Outcome{}) {
			t.Errorf("%+v", o)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if got := sortedFiles(t, root+"/.Trash"); got != "" {
		t.Errorf("there is %s", got)
	}
}

func TestNoTrash(t *testing.T) {
	for name, make := range map[string]func(root string) error{
		"missing": func(string) error { return nil },
		"no cur":  func(root string) error { return os.Mkdir(root+"/.Trash", 0o700) },
		"a link": func(root string) error {
			return os.Symlink("/tmp", root+"/.Trash")
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir() + "/m"
			makeMaildir(t, root)
			write(t, root, "new/1.a", "one")
			if err := make(root); err != nil {
				t.Fatal(err)
			}
			d := policyMaildrop(t, root, toTrash, "")
			for range 2 {
				err := d.PermitDelete(0)
				if gateway.CodeOf(err) != gateway.CodeSysPerm || !strings.Contains(err.Error(), ".Trash") {
					t.Errorf("PermitDelete: %v", err)
				}
				if name == "missing" && !strings.Contains(err.Error(), "there is no trash folder, so messages cannot be removed") {
					t.Errorf("PermitDelete: %v", err)
				}
			}
			if err := d.Delete(t.Context(), []int{0}, func(int) { t.Error("reported as removed") }); err == nil {
				t.Error("Delete did not fail")
			}
			if got := sortedFiles(t, root); got != "new/1.a" {
				t.Errorf("left is %s", got)
			}
		})
	}
}

// A trash that goes away during the session takes no message with it.
func TestTrashVanishes(t *testing.T) {
	root := t.TempDir() + "/m"
	makeMaildir(t, root)
	makeMaildir(t, root+"/.Trash")
	write(t, root, "new/1.a", "one")
	d := policyMaildrop(t, root, toTrash, "")
	if err := d.PermitDelete(0); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(root + "/.Trash"); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), []int{0}, func(int) { t.Error("reported as removed") }); err == nil {
		t.Error("Delete did not fail")
	}
	if got := sortedFiles(t, root); got != "new/1.a" {
		t.Errorf("left is %s", got)
	}
}

func TestMarkSeen(t *testing.T) {
	root := t.TempDir() + "/m"
	makeMaildir(t, root)
	write(t, root, "new/1.a", "one")
	write(t, root, "cur/2.b:2,DFT", "two")
	write(t, root, "cur/3.c:2,S", "three")
	write(t, root, "new/4.d", "four")
	d := policyMaildrop(t, root, gateway.Policy{OnDelete: gateway.SeenOnDelete}, "")
	// Another program takes one to cur meanwhile.
	if err := os.Rename(root+"/new/4.d", root+"/cur/4.d:2,R"); err != nil {
		t.Fatal(err)
	}
	fates := 0
	if err := d.Delete(t.Context(), []int{0, 1, 2, 3}, func(i int) {
		if d.Outcome(i).Fate == gateway.Marked {
			fates++
		}
	}); err != nil || fates != 4 {
		t.Errorf("%d are marked, %v", fates, err)
	}
	if got, want := sortedFiles(t, root), "cur/1.a:2,S cur/2.b:2,DFST cur/3.c:2,S cur/4.d:2,RS"; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
	before := uids(d)
	closeMaildrop(t, d)
	if again := policyMaildrop(t, root, gateway.Policy{}, ""); !slices.Equal(uids(again), before) {
		t.Errorf("unique-ids were %v and are %v", before, uids(again))
	}
}
