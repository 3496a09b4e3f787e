//go:build real

package real

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// buildPackage builds the Debian package, for this machine if there is no arch.
func buildPackage(t *testing.T, arch ...string) (path string) {
	t.Helper()
	dir := folder(t)
	build := exec.Command("../../packaging/build-deb", append([]string{"1.2.3", dir}, arch...)...)
	if out, err := run(10*time.Minute, build); err != nil {
		t.Fatalf("building the package: %v\n%s", err, out)
	}
	packages, err := filepath.Glob(filepath.Join(dir, "pop3gw_1.2.3_*.deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("packages %v, %v", packages, err)
	}
	return packages[0]
}

// TestOtherPackage looks at the package for arm64, on whatever machine.
func TestOtherPackage(t *testing.T) {
	path, root := buildPackage(t, "arm64"), folder(t)
	if out, err := run(time.Minute, exec.Command("dpkg-deb", "--field", path, "Architecture")); err != nil || strings.TrimSpace(out) != "arm64" {
		t.Errorf("Architecture: %s, %v", out, err)
	}
	if out, err := run(time.Minute, exec.Command("dpkg-deb", "--extract", path, root)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := elf.Open(filepath.Join(root, "usr/bin/pop3gw"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if program.Machine != elf.EM_AARCH64 {
		t.Errorf("the program is for %v", program.Machine)
	}
}

// TestPackage builds the Debian package, and installs, upgrades and removes it in a
// copy of this system: dpkg, the unit and its hardening, the manual pages.
func TestPackage(t *testing.T) {
	out, err := run(2*time.Minute, exec.Command("unshare", "--mount", "--propagation", "private", "bash", "testdata/package.sh", buildPackage(t)))
	if err != nil {
		t.Fatalf("installing: %v\n%s", err, out)
	}
	// said is what each command printed, by the command; the last where it ran twice.
	said := make(map[string]string)
	for _, part := range strings.Split("\n"+out, "\n# ")[1:] {
		command, rest, _ := strings.Cut(part, "\n")
		said[command] = strings.TrimSpace(rest)
	}
	for _, tt := range []struct{ command, want string }{ // want is an expression for all of it
		{`dpkg-query -W -f ${db:Status-Abbrev}${Version}\n pop3gw`, `ii 1\.2\.3`},
		{"dpkg --verify pop3gw", ``},
		{"getent passwd pop3gw", `pop3gw:x:\d+:\d+:POP3 gateway:/var/lib/pop3gw:/usr/sbin/nologin`},
		{"pop3gw version", `pop3gw 1\.2\.3`},
		{"systemctl is-enabled pop3gw.service pop3gw.socket", "disabled\ndisabled\nstatus 1"},
		{"systemd-analyze verify pop3gw.service pop3gw.socket", ``},
		{"sh -c zcat /usr/share/man/man1/pop3gw-serve.1.gz /usr/share/man/man5/pop3gw-config.5.gz | groff -man -Tascii -ww -z", ``},
		{"bash -c . /usr/share/bash-completion/completions/pop3gw && complete -p pop3gw", `complete .*pop3gw`},
		{"sh -c ls /usr/bin/pop3gw; cat /etc/pop3gw/config.toml; getent passwd pop3gw", "ls: cannot access .*\nchanged\npop3gw:.*"},
		{"sh -c ls -d /var/lib/pop3gw; getent passwd pop3gw", "ls: cannot access .*\nstatus 2"},
	} {
		got, ran := said[tt.command]
		if !ran || !regexp.MustCompile("^(?:"+tt.want+")$").MatchString(got) {
			t.Errorf("%s says:\n%s\nwant %s", tt.command, got, tt.want)
		}
	}
	if !strings.Contains(out, "pop3gw needs a configuration: ") || strings.Count(out, "pop3gw needs a configuration: ") != 1 {
		t.Errorf("the installation says other things than where to begin:\n%s", out)
	}
	exposure := regexp.MustCompile(`Overall exposure level for pop3gw\.service: ([\d.]+)`).FindStringSubmatch(out)
	if exposure == nil {
		t.Fatalf("no exposure in:\n%s", out)
	}
	if level, err := strconv.ParseFloat(exposure[1], 64); err != nil || level > 1.4 {
		t.Errorf("systemd-analyze security says %s, want 1.4 at most:\n%s", exposure[1], said["systemd-analyze security --offline=true --no-pager pop3gw.service"])
	}
	t.Logf("exposure %s", exposure[1])
}
