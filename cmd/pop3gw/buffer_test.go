package main

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// syncBuffer keeps what a process or goroutine writes.
type syncBuffer struct {
	mu      sync.Mutex
	text    strings.Builder
	written chan struct{} // closed by the next Write
}

func newSyncBuffer() *syncBuffer { return &syncBuffer{written: make(chan struct{})} }

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.written)
	b.written = make(chan struct{})
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// find waits until pattern matches and returns the match and its groups.
func (b *syncBuffer) find(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		text, written := b.text.String(), b.written
		b.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-written:
		case <-timeout:
			t.Fatalf("nothing fits %s in:\n%s", pattern, text)
		}
	}
}
