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
	"slices"
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

// composition is a compose file with the variables that it is run with.
type composition struct {
	file string
	env  []string
}

// run runs a command of Docker Compose: the plug-in, or else version 1.29.
func (c composition) run(args ...string) (string, error) {
	name, first := "docker-compose", []string(nil)
	if _, err := docker("compose", "version"); err == nil {
		name, first = "docker", []string{"compose"}
	}
	return command(nil, c.env, name, slices.Concat(first, []string{"--project-name", project, "--file", c.file}, args)...)
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
	if _, err := c.run("up", "--detach", "--no-build"); err != nil {
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
