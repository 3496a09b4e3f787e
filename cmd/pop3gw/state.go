package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pop3gw/gateway/state/cache"
)

// stateFolder is the folder of state.url; "" is none.
func (c *config) stateFolder() (string, error) {
	if c.State.URL == "" {
		return "", nil
	}
	u, err := url.Parse(c.State.URL)
	if err != nil || u.Scheme != "file" || u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return "", c.source.errorf("state.url", `found %q; allowed is "file:///" and a folder`, c.State.URL)
	}
	return filepath.Clean(u.Path), nil
}

// openCache opens what is kept between runs and could be found out again. It is
// nil without state.url.
func (c *config) openCache(log *slog.Logger) (*cache.Cache, error) {
	dir, err := c.stateFolder()
	if dir == "" || err != nil {
		return nil, err
	}
	kept, err := cache.Open(filepath.Join(dir, "cache"), cache.DefaultSize, log)
	if err != nil {
		return nil, c.source.errorf("state.url", "%w; the gateway's user (uid %d) must be able to write to %s", err, os.Geteuid(), dir)
	}
	return kept, nil
}

// checkState reports whether the gateway could keep what it wants to, without
// changing anything.
func (c *config) checkState() error {
	dir, err := c.stateFolder()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "cache")
	for { // serve creates what is missing
		_, err := os.Stat(path)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		path = filepath.Dir(path)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path+"/.", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%s: %w; the gateway's user (uid %d) must be able to write to this folder", path, err, os.Geteuid())
	}
	return nil
}
