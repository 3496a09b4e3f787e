package main

import (
	"context"
	"os"
	"testing"
)

// What cannot be set up, since pop3gw does not build, ends with an error and leaves nothing.
func TestLabThatFails(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newLab(ctx); err == nil {
		t.Error("no error")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
