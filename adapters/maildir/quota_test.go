package maildir

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pop3gw/gateway"
)

func TestQuota(t *testing.T) {
	const before = "1000000S,1000C\n12345 9\n"
	tests := []struct {
		name   string
		folder string
		quota  string // "" for no file
		want   string
	}{
		{"kept true", "", before, before + "-104 -3\n"},
		{"in a folder", "A.B", before, before + "-104 -3\n"},
		{"trash is not counted", "Trash", before, before},
		{"no file", "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			top := filepath.Join(root, "ann")
			path := top
			makeMaildir(t, top)
			if test.folder != "" {
				path = filepath.Join(top, "."+test.folder)
				makeMaildir(t, path)
			}
			quota := filepath.Join(top, quotaFile)
			if test.quota != "" {
				if err := os.WriteFile(quota, []byte(test.quota), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(t, path, "new/1.m,S=100", "one\n")   // as the name has it
			write(t, path, "cur/2.m:2,S", "a\n")       // the file's own size
			write(t, path, "cur/3.m,W=4:2,", "\n\n")   // W is another size
			write(t, path, "cur/4.m:2,ST", "trash\n")  // subtracted when it got the flag
			write(t, path, "cur/5.m:2,S", "missing\n") // subtracted by whoever removed it
			write(t, path, "cur/6.m:2,S", "unmarked\n")
			a := newAdapter(t, Options{Path: root + "/{user}", Folders: true})
			d := open(t, a, gateway.Account{Name: "ann", Folder: test.folder})
			if err := os.Remove(path + "/cur/5.m:2,S"); err != nil {
				t.Fatal(err)
			}
			if err := d.Delete(t.Context(), []int{0, 1, 2, 3, 4}, func(int) {}); err != nil {
				t.Error(err)
			}
			closeMaildrop(t, d)
			got, err := os.ReadFile(quota)
			if string(got) != test.want || (err == nil) != (test.want != "") {
				t.Errorf("the quota file is %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// TestQuotaBroken has things in the place of the quota file that must neither
// hang nor fail the removal, nor be written to.
func TestQuotaBroken(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("target", path) },
	} {
		t.Run(name, func(t *testing.T) {
			a, path := oneMaildir(t)
			var log bytes.Buffer
			a.log = slog.New(slog.NewTextHandler(&log, nil))
			write(t, path, "new/1.m", "one\n")
			target := filepath.Join(path, "target")
			if err := os.WriteFile(target, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := put(filepath.Join(path, quotaFile)); err != nil {
				t.Fatal(err)
			}
			d := open(t, a, ann)
			if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
				t.Error(err)
			}
			closeMaildrop(t, d)
			if left := files(t, path); len(left) != 0 {
				t.Errorf("left are %q", left)
			}
			if raw, err := os.ReadFile(target); err != nil || len(raw) > 0 {
				t.Errorf("a link was followed: %q, %v", raw, err)
			}
			if strings.Count(log.String(), "quota file was not brought up to date") != 1 {
				t.Errorf("the log says\n%s", &log)
			}
		})
	}
}

// TestQuotaLinked has one message with two names: it is subtracted once.
func TestQuotaLinked(t *testing.T) {
	a, path := oneMaildir(t)
	write(t, path, "new/1.m", "one\n")
	if err := os.Link(path+"/new/1.m", path+"/cur/1.m:2,"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, quotaFile), []byte("10S\n4 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, a, ann)
	if err := d.Delete(t.Context(), []int{0}, func(int) {}); err != nil {
		t.Error(err)
	}
	closeMaildrop(t, d)
	if got, err := os.ReadFile(filepath.Join(path, quotaFile)); string(got) != "10S\n4 1\n-4 -1\n" {
		t.Errorf("the quota file is %q, %v", got, err)
	}
}
