//go:build real

package docker

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const base = "pop3gw-test-base"

// standIns makes the public images that the Dockerfile and the compose files
// name, unless they are there.
func standIns() error {
	folder := filepath.Join(os.Getenv("POP3GW_TEST_CACHE"), "root")
	if _, err := os.Stat(filepath.Join(folder, "complete")); err != nil {
		return fmt.Errorf("%w; test/run fills this folder with Debian's packages", err)
	}
	golang, err := named("Dockerfile", `golang:\S+`)
	if err != nil {
		return err
	}
	dovecot, err := named("compose.yaml", `dovecot/dovecot:2\.3\.\S+`)
	if err != nil {
		return err
	}
	_, haveGolang := docker("image", "inspect", golang)
	_, haveDovecot := docker("image", "inspect", dovecot)
	if haveGolang == nil && haveDovecot == nil {
		return nil
	}
	if err := fromTar([]string{"-C", folder, "--exclude=perl*", "--exclude=./usr/share/doc", "--exclude=./usr/share/man", "--exclude=./usr/share/locale", "."},
		"import", "--change", "LABEL "+label+"=1", "-", base); err != nil {
		return err
	}
	if haveGolang != nil {
		if err := golangImage(golang); err != nil {
			return err
		}
	}
	if haveDovecot != nil {
		return dovecotImage(dovecot)
	}
	return nil
}

// named is the image that a file names.
func named(file, pattern string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return "", err
	}
	name := regexp.MustCompile(pattern).FindString(string(text))
	if name == "" {
		return "", fmt.Errorf("%s names no image %s", file, pattern)
	}
	return name, nil
}

// fromTar gives Docker an archive of files that belong to root.
func fromTar(tarArgs []string, dockerArgs ...string) error {
	tar := exec.Command("tar", append([]string{"-c", "--owner=0", "--group=0"}, tarArgs...)...)
	archive, err := tar.StdoutPipe()
	if err != nil {
		return err
	}
	if err := tar.Start(); err != nil {
		return err
	}
	_, err = command(archive, nil, "docker", dockerArgs...)
	archive.Close()
	return errors.Join(err, tar.Wait())
}

// golangImage has the Go that runs this test in /usr/local/go, and the
// certificates of this machine, since modules come through its network.
func golangImage(name string) error {
	goroot, err := command(nil, nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	id, err := docker("create", base, "sh")
	if err != nil {
		return err
	}
	defer docker("rm", id)
	if err := fromTar([]string{
		"--transform=s,^\\(bin\\|pkg\\|src\\|go.env\\|VERSION\\),usr/local/go/&,",
		"--exclude=testdata", "--exclude=*_test.go", "--exclude=src/cmd",
		"-C", "/", "etc/ssl/certs/ca-certificates.crt", "-C", goroot, "bin/go", "pkg", "src", "go.env", "VERSION",
	}, "cp", "-", id+":/"); err != nil {
		return err
	}
	_, err = docker("commit", "--change", "ENV PATH=/usr/local/go/bin:/usr/bin:/bin", "--change", "LABEL "+label+"=1", id, name)
	return err
}

// dovecotImage is made as the official images of Dovecot 2.3 are.
func dovecotImage(name string) error {
	const dockerfile = `FROM ` + base + `
RUN printf '%s\n' 'root:x:0:0::/root:/bin/sh' 'dovecot:x:101:101::/:/bin/false' 'dovenull:x:102:102::/:/bin/false' \
	'vmail:x:1000:1000::/srv/vmail:/bin/false' >/etc/passwd && \
	printf '%s\n' 'root:x:0:' 'dovecot:x:101:' 'dovenull:x:102:' 'vmail:x:1000:' >/etc/group && \
	mkdir -p /srv/mail /run /tmp /var/lib/dovecot && chmod 1777 /tmp && chown 1000:1000 /srv/mail && \
	rm -rf /etc/dovecot/* && case $(dovecot --version) in 2.3.*) ;; *) exit 1 ;; esac
EXPOSE 24 110 143 587 990 993 4190
VOLUME ["/etc/dovecot", "/srv/mail"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["/usr/sbin/dovecot", "-F"]
`
	_, err := command(strings.NewReader(dockerfile), nil, "docker", "build", "--network", "none", "--label", label+"=1", "--tag", name, "-")
	return err
}

// buildArgs have a build on this machine's network take the modules that the machine has,
// or get them where it gets its own.
var buildArgs []string

// serveModules sets buildArgs.
func serveModules() error {
	cache, err := command(nil, nil, "go", "env", "GOMODCACHE")
	if err != nil {
		return err
	}
	proxy, err := command(nil, nil, "go", "env", "GOPROXY")
	if err != nil {
		return err
	}
	sums, err := command(nil, nil, "go", "env", "GOSUMDB")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, http.FileServer(http.Dir(filepath.Join(cache, "cache", "download"))))
	buildArgs = []string{"GOPROXY=http://" + l.Addr().String() + "," + proxy, "GOSUMDB=" + sums, "SOURCE_DATE_EPOCH=1700000000"}
	return nil
}

// buildImage builds the image as the Dockerfile says.
func buildImage() error { return build(image) }

func build(tag string, args ...string) error {
	command := []string{"build", "--force-rm", "--network", "host", "--tag", tag, "--label", label + "=1"}
	for _, arg := range slices.Concat(buildArgs, []string{"VERSION=1.2.3", "REVISION=abc"}, args) {
		command = append(command, "--build-arg", arg)
	}
	_, err := docker(append(command, ".")...)
	return err
}

// removeAll removes what bears our names.
func removeAll() error {
	var errs []error
	for _, of := range []struct{ list, remove []string }{
		{[]string{"ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=" + project}, []string{"rm", "--force", "--volumes"}},
		{[]string{"ps", "--all", "--quiet", "--filter", "label=" + label}, []string{"rm", "--force", "--volumes"}}, // of builds, too
		{[]string{"volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project=" + project}, []string{"volume", "rm"}},
		{[]string{"network", "ls", "--quiet", "--filter", "label=com.docker.compose.project=" + project}, []string{"network", "rm"}},
		{[]string{"image", "ls", "--quiet", "--filter", "label=" + label}, []string{"image", "rm", "--force"}},
	} {
		ids, err := docker(of.list...)
		if err == nil && ids != "" {
			_, err = docker(append(of.remove, strings.Fields(ids)...)...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
