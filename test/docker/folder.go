//go:build real

package docker

import (
	"os"
	"testing"
)

// folder is one that the containers' users can enter, too.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pop3gw-docker-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string, owner int) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, owner, owner); err != nil {
		t.Fatal(err)
	}
	return path
}
