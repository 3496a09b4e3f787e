//go:build real

package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Debian lets one IMAP server be installed at a time. The others are unpacked
// by test/unpack and run in mount namespaces of their own, where their files
// lie over /usr and /etc.

// unpacked is the folder with the files of a server's packages.
func unpacked(t testing.TB, server string) string {
	t.Helper()
	cache := os.Getenv("POP3GW_TEST_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "pop3gw-test")
	}
	dir := filepath.Join(cache, server)
	if _, err := os.Stat(filepath.Join(dir, "complete")); err != nil {
		t.Fatalf("%s is not unpacked in %s; test/run does that: %v", server, dir, err)
	}
	return dir
}

// inNamespace is a command that runs a shell script as root in mount and
// process namespaces of its own. The packages' /usr lies over the machine's,
// their /etc too, and etc over both; /run is empty. All processes of the script
// end with it.
func inNamespace(packages, etc, script string) *exec.Cmd {
	return exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-euc", fmt.Sprintf(`
mount -t overlay overlay -o lowerdir=%[1]s/usr:/usr /usr
mount -t overlay overlay -o lowerdir=%[2]s:%[1]s/etc:/etc /etc
mount -t tmpfs tmpfs /run
%[3]s`, packages, etc, script))
}
