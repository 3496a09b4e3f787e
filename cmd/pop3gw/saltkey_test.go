package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSaltKey(t *testing.T) {
	configFolder(t)
	state := mkdir(t, filepath.Join(t.TempDir(), "state"))
	c, err := parseConfig("config.toml", []byte(goodConfig+"[state]\nurl = \"file://"+state+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := c.saltKey(); key != nil || err != nil {
		t.Errorf("a key before there is one: %v, %v", key, err)
	}
	if err := c.makeSaltKey(); err != nil {
		t.Fatal(err)
	}
	key, err := c.saltKey()
	if err != nil || len(key) != saltKeySize || bytes.Equal(key, make([]byte, saltKeySize)) {
		t.Errorf("key %x, %v", key, err)
	}
	files, err := os.ReadDir(state)
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, %v; want the key alone", files, err)
	}
	if info, err := os.Stat(filepath.Join(state, saltKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := c.makeSaltKey(); err != nil {
		t.Fatal(err)
	}
	if again, _ := c.saltKey(); !bytes.Equal(again, key) {
		t.Error("another key was made")
	}
	if err := os.Truncate(filepath.Join(state, saltKeyFile), 31); err != nil {
		t.Fatal(err)
	}
	if _, err := c.saltKey(); err == nil || !strings.Contains(err.Error(), "state.url: "+state+"/scram.key has 31 octets") {
		t.Errorf("a key of 31 octets: %v", err)
	}
	if c, err = parseConfig("config.toml", []byte(goodConfig)); err != nil {
		t.Fatal(err)
	}
	if key, err := c.saltKey(); key != nil || err != nil || c.makeSaltKey() != nil {
		t.Errorf("without state: %x, %v", key, err)
	}
}
