//go:build real

package docker

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestImage looks at what is in the image, and what is said of it.
func TestImage(t *testing.T) {
	size, err := strconv.Atoi(inspect(t, image, "{{.Size}}"))
	t.Logf("%.1f MB", float64(size)/1e6)
	if err != nil || size > 25e6 {
		t.Errorf("the image has %d octets, want 25 MB at most", size)
	}
	var config struct {
		User        string
		Entrypoint  []string
		Cmd         []string
		Volumes     map[string]any
		Healthcheck struct{ Test []string }
		Labels      map[string]string
	}
	if err := json.Unmarshal([]byte(inspect(t, image, "{{json .Config}}")), &config); err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct{ got, want any }{
		{config.User, "65532:65532"},
		{config.Entrypoint, []string{"/usr/bin/pop3gw"}},
		{config.Cmd, []string{"serve"}},
		{config.Healthcheck.Test, []string{"CMD", "/usr/bin/pop3gw", "health"}},
		{config.Volumes, map[string]any{"/var/lib/pop3gw": map[string]any{}}},
		{config.Labels["org.opencontainers.image.version"], "1.2.3"},
		{config.Labels["org.opencontainers.image.revision"], "abc"},
		{config.Labels["org.opencontainers.image.licenses"], "MIT"},
	} {
		if !reflect.DeepEqual(v.got, v.want) {
			t.Errorf("the image says %v, want %v", v.got, v.want)
		}
	}
	if got := must(t, "run", "--rm", "--network", "none", "--read-only", image, "version"); got != "pop3gw 1.2.3" {
		t.Errorf("version prints %q", got)
	}
}

// TestFiles finds the program, the certificates and a folder, with the owners
// and times that they are to have. The program is the one that this machine
// builds of the same sources in another folder, with the same Go; POP3GW_RELEASE
// names one that is built already.
func TestFiles(t *testing.T) {
	id := must(t, "create", image)
	defer docker("rm", "--volumes", id)
	path := filepath.Join(folder(t), "image.tar")
	must(t, "export", "--output", path, id)
	archive, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	var names []string
	var program []byte
	// Docker brings these itself.
	docker := []string{".dockerenv", "dev/", "proc/", "sys/", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"}
	for files := tar.NewReader(archive); ; {
		f, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(docker, func(p string) bool { return strings.HasPrefix(f.Name, p) }) {
			continue
		}
		owner := 0
		switch f.Name {
		case "var/lib/pop3gw/":
			owner = 65532
			if f.Mode&0o7777 != 0o700 {
				t.Errorf("the folder of the state has mode %o", f.Mode)
			}
		case "usr/bin/pop3gw":
			if program, err = io.ReadAll(files); err != nil {
				t.Fatal(err)
			}
		}
		if f.Uid != owner || f.Gid != owner {
			t.Errorf("%s belongs to %d:%d", f.Name, f.Uid, f.Gid)
		}
		if f.Typeflag == tar.TypeReg {
			names = append(names, f.Name)
			if f.ModTime.Unix() != 1700000000 {
				t.Errorf("%s is of %v, want the time of SOURCE_DATE_EPOCH", f.Name, f.ModTime)
			}
		}
	}
	slices.Sort(names)
	if want := []string{"etc/ssl/certs/ca-certificates.crt", "usr/bin/pop3gw"}; !slices.Equal(names, want) {
		t.Errorf("the image has the files %v, want %v", names, want)
	}

	own := os.Getenv("POP3GW_RELEASE")
	if own == "" {
		own = filepath.Join(folder(t), "pop3gw")
		if _, err := command(nil, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false",
			"-ldflags", "-s -w -X main.stamp=1.2.3", "-o", own, "./cmd/pop3gw"); err != nil {
			t.Fatal(err)
		}
	}
	built, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, program) {
		t.Errorf("the program in the image (%x) is not the one built here (%x)", sha256.Sum256(program), sha256.Sum256(built))
	}
}

// TestOtherMachine builds the image for arm64 on whatever this machine is.
func TestOtherMachine(t *testing.T) {
	const arm = image + "-arm64"
	if err := build(arm, "TARGETARCH=arm64"); err != nil {
		t.Fatal(err)
	}
	id := must(t, "create", arm)
	defer docker("rm", "--volumes", id)
	path := filepath.Join(folder(t), "pop3gw")
	must(t, "cp", id+":/usr/bin/pop3gw", path)
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if program.Machine != elf.EM_AARCH64 {
		t.Errorf("the program is for %v", program.Machine)
	}
}
