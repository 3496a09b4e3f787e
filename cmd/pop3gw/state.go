package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pop3gw/gateway/state"
	"pop3gw/gateway/state/cache"
	"pop3gw/gateway/uidl"
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

// openStores opens the stores in the folder of state.url, or none without one. The
// cache may be missing from them: nothing depends on it.
func (c *config) openStores(log *slog.Logger) (stores, error) {
	dir, err := c.stateFolder()
	if dir == "" || err != nil {
		return stores{}, err
	}
	durable, err := state.Open(dir, log)
	if err != nil {
		return stores{}, c.source.errorf("state.url", "%w; the gateway's user (uid %d) must be able to write to %s", err, os.Geteuid(), dir)
	}
	kept, err := cache.Open(filepath.Join(dir, "cache"), cache.DefaultSize, log)
	if err != nil {
		log.Warn("the cache cannot be used, and logins take longer; see to the space and the rights there, and restart", "error", err)
	}
	return stores{kept, durable, uidl.NewBook(durable, log)}, nil
}

// checkState reports whether the gateway could keep what it wants to, and whether
// what it has kept is whole, without changing anything.
func (c *config) checkState(ctx context.Context) error {
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
	return cause(state.Check(ctx, dir))
}
