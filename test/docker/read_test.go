//go:build real

package docker

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestComposeFilesAreRead has both readers of Compose files read each: docker-compose
// 1.29, which Debian 12 has, and the library of docker compose.
func TestComposeFilesAreRead(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "compose*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("Compose files: %v, %v", files, err)
	}
	for _, file := range files {
		version, err := command(nil, nil, "docker-compose", "version", "--short")
		if err != nil || !strings.HasPrefix(version, "1.29.") {
			t.Fatalf("docker-compose %q, %v; want 1.29", version, err)
		}
		old, err := command(nil, nil, "docker-compose", "--project-name", project, "--file", file, "config", "--services")
		if err != nil {
			t.Errorf("docker-compose 1.29: %v", err)
		}
		out, err := command(nil, nil, "go", "-C", filepath.Join(root, "test/docker/testdata/compose"), "run", ".", file)
		if err != nil {
			t.Errorf("docker compose: %v", err)
			continue
		}
		_, services, _ := strings.Cut(out, " ")
		want, got := strings.Fields(old), strings.Fields(strings.Trim(services, "[]"))
		slices.Sort(want)
		slices.Sort(got)
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: docker compose reads the services %v, docker-compose 1.29 %v", filepath.Base(file), got, want)
		}
	}
}
