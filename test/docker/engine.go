//go:build real

package docker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	project = "pop3gw-test" // of the compose files; what bears its name is ours
	image   = "pop3gw:test"
	label   = "pop3gw.test" // of the images that are made here
)

// root is the folder of the sources.
var root = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// command runs a program to its end and returns its standard output. The error
// holds the rest of what it wrote.
func command(stdin io.Reader, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdin = root, stdin
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func docker(args ...string) (string, error) { return command(nil, nil, "docker", args...) }

// must is docker where an error ends the test.
func must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := docker(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// composition is a compose file, or several, with the variables that they are run with.
type composition struct {
	files []string
	env   []string
}

// building is a composition whose image is built as its file says, of modules that this
// machine has.
func building(t *testing.T, file string, env []string) composition {
	t.Helper()
	var args strings.Builder
	for _, arg := range buildArgs {
		name, value, _ := strings.Cut(arg, "=")
		fmt.Fprintf(&args, "        %s: %q\n", name, value)
	}
	ours := write(t, filepath.Join(folder(t), "build.yaml"),
		fmt.Sprintf("services:\n  pop3gw:\n    build:\n      network: host\n      labels: {%s: \"1\"}\n      args:\n%s", label, args.String()), 0)
	return composition{[]string{file, ours}, env}
}

// run runs a command of Docker Compose: the plug-in, or else version 1.29.
func (c composition) run(args ...string) (string, error) {
	name, first := "docker-compose", []string(nil)
	if _, err := docker("compose", "version"); err == nil {
		name, first = "docker", []string{"compose"}
	}
	first = append(first, "--project-name", project)
	for _, file := range c.files {
		first = append(first, "--file", file)
	}
	return command(nil, c.env, name, append(first, args...)...)
}

// up starts it and ends it with the test.
func (c composition) up(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			out, err := c.run("logs", "--no-color")
			t.Logf("the log of the containers: %v\n%s", err, out)
		}
		if _, err := c.run("down", "--volumes", "--remove-orphans", "--timeout", "1"); err != nil {
			t.Error(err)
		}
	})
	build := "--no-build"
	if len(c.files) > 1 {
		build = "--build"
	}
	if _, err := c.run("up", "--detach", build); err != nil {
		t.Fatal(err)
	}
}

// container is the id of a service's container.
func (c composition) container(t *testing.T, service string) string {
	t.Helper()
	id, err := c.run("ps", "--quiet", service)
	if err != nil || id == "" {
		t.Fatalf("%s has no container: %v", service, err)
	}
	return id
}

// inspect is one value of a container or image.
func inspect(t testing.TB, id, template string) string {
	t.Helper()
	return must(t, "inspect", "--format", template, id)
}

// eventually waits until check returns nil.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
