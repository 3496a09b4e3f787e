package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	saltKeyFile = "scram.key"
	saltKeySize = 32 // octets
)

// saltKey is the key of account.Config.SaltKey that state.url keeps; nil where it
// keeps none yet.
func (c *config) saltKey() ([]byte, error) {
	dir, err := c.stateFolder()
	if dir == "" || err != nil {
		return nil, err
	}
	path := filepath.Join(dir, saltKeyFile)
	key, err := readRegular(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR): // opening the state complains, where it is to
		return nil, nil
	case err != nil:
		return nil, c.source.errorf("state.url", "%w; the gateway's user (uid %d) must be able to read it", err, os.Geteuid())
	case len(key) != saltKeySize:
		return nil, c.source.errorf("state.url", "%s has %d octets and should have %d; delete it, and a new one is made", path, len(key), saltKeySize)
	}
	return key, nil
}

// makeSaltKey makes the key of saltKey where there is none. The folder of
// state.url exists.
func (c *config) makeSaltKey() error {
	dir, err := c.stateFolder()
	if dir == "" || err != nil {
		return err
	}
	if key, err := c.saltKey(); key != nil || err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, saltKeyFile+".new-*") // 0600
	if err == nil {
		defer os.Remove(temp.Name())
		key := make([]byte, saltKeySize)
		rand.Read(key) // never fails
		_, err = temp.Write(key)
		err = errors.Join(err, temp.Sync(), temp.Close())
	}
	if err == nil { // whole, or not at all
		err = os.Link(temp.Name(), filepath.Join(dir, saltKeyFile))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return c.source.errorf("state.url", "%w", fmt.Errorf("making %s: %w; the gateway's user (uid %d) must be able to write to %s", saltKeyFile, err, os.Geteuid(), dir))
	}
	return nil
}
