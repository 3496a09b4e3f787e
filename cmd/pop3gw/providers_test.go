package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each configuration of docs/providers.md is ready to serve, and names the adapter
// after its provider.
func TestConfigurationsOfTheProviders(t *testing.T) {
	doc, err := os.ReadFile("../../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	hash, _, _ := pop3gw(t, "secret", "passwd")
	sections := regexp.MustCompile(`(?m)^## `).Split(string(doc), -1)[1:]
	var names []string
	for _, section := range sections {
		name, _, _ := strings.Cut(section, "\n")
		names = append(names, name)
		blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(section, -1)
		if len(blocks) == 0 {
			t.Errorf("%s: there is no configuration", name)
		}
		for _, b := range blocks {
			dir := t.TempDir()
			text := strings.NewReplacer("$argon2id$v=19$m=19456,t=2,p=1$...", strings.TrimSpace(hash), "/var/lib/pop3gw", dir+"/state").
				Replace(inFolder(t, dir, b[1]))
			path := write(t, dir, "config.toml", text)
			c, err := loadConfig(path)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			log := newLogger(newSyncBuffer(), c.Log)
			kept, err := c.openStores(log)
			if err != nil {
				t.Fatal(err)
			}
			service, err := c.build(kept, log)
			if err != nil {
				kept.close()
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := service.close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, w := range c.warnings() {
				t.Errorf("%s: %v", name, w)
			}
			for adapter, a := range c.adapters {
				if !strings.Contains(strings.ToLower(name), adapter) || a.Type != "imap" {
					t.Errorf("%s: it has the adapter %q of type %q", name, adapter, a.Type)
				}
			}
		}
	}
	for _, want := range []string{"Gmail", "Microsoft 365", "Exchange", "Yahoo", "iCloud", "Dovecot", "Cyrus", "Courier"} {
		if !strings.Contains(strings.Join(names, "\n"), want) {
			t.Errorf("there is nothing about %s, but only about %q", want, names)
		}
	}
}
