// Package cache keeps on disk what could be found out again: listings and sizes
// of maildrops. Losing any of it costs time and nothing else, so nothing here
// returns an error, waits for a disk to be written, or is needed to start. What
// must not be lost lies elsewhere.
//
// Each value is a file of its own, written beside its place and renamed, with a
// checksum: a file that is torn, damaged, of another key or version reads as absent.
package cache

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	magic      = "pop3gw cache 2\n"
	headerSize = len(magic) + 8 + 4 // number of octets of the value, and the CRC-32C of key and value
	leastSize  = 4 << 10            // octets that a file counts as: what it takes on most disks
	nameOctets = 16                 // of a key's digest
	tempPrefix = "tmp-"
	// tempAge is how old a file must be to be left over from a crash and not
	// another process's that is being written.
	tempAge = time.Hour
	// usedGrain is how exactly the time of the last use is kept: a read should
	// not become a write each time.
	usedGrain = time.Hour
)

// DefaultSize is the usual limit of a Cache, in octets.
const DefaultSize = 1 << 30

// Cache is a folder of values by key. It is safe for concurrent use, and several
// processes may use one folder. A nil *Cache keeps nothing.
type Cache struct {
	root *os.Root
	size int64 // limit for files in all, in octets
	log  *slog.Logger

	mu      sync.Mutex
	files   map[string]file // by name
	total   int64           // of their octets
	failing bool            // the last write failed, and that was logged
}

type file struct {
	octets int64 // that count
	used   time.Time
}

// Open returns the cache in the folder dir, which it creates if it is missing,
// for no other user to read. Of files it keeps size octets at most, 4 KB for each at
// least: when there are more, those go that were not used for the longest time. The
// error says what is wrong with dir.
func Open(dir string, size int64, log *slog.Logger) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	c := &Cache{root: root, size: size, log: log, files: make(map[string]file)}
	if err := c.scan(); err != nil {
		root.Close()
		return nil, err
	}
	return c, nil
}

// scan learns which files there are, and whether the folder can be written to.
func (c *Cache) scan() error {
	probe, err := c.temp()
	if err != nil {
		return err
	}
	probe.Close()
	c.root.Remove(probe.name)
	entries, err := fs.ReadDir(c.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		switch {
		case strings.HasPrefix(entry.Name(), tempPrefix):
			if time.Since(info.ModTime()) > tempAge {
				c.root.Remove(entry.Name())
			}
		case isName(entry.Name()):
			c.note(entry.Name(), info.Size(), info.ModTime())
		}
	}
	return nil
}

// Get returns a copy of the value of key, and whether there is one.
func (c *Cache) Get(key string) (value []byte, ok bool) {
	if c == nil {
		return nil, false
	}
	name := nameOf(key)
	value, err := c.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		c.log.Warn("a file of the cache cannot be used, and what it held is found out anew", "file", c.path(name), "error", err)
		c.Delete(key)
		return nil, false
	}
	c.touch(name, int64(headerSize+len(value)))
	return value, true
}

var errDamaged = errors.New("file is damaged, or of another version")

func (c *Cache) read(key string) ([]byte, error) {
	f, err := c.root.Open(nameOf(key))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	octets := info.Size() - int64(headerSize)
	if !info.Mode().IsRegular() || octets < 0 || octets > c.size {
		return nil, errDamaged
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, err
	}
	header, value := data[:headerSize], data[headerSize:]
	if !bytes.Equal(header, headerOf(key, value)) {
		return nil, errDamaged
	}
	return value, nil
}

// Put keeps value for key in place of any other. A value that cannot be kept is
// logged, and forgotten.
func (c *Cache) Put(key string, value []byte) {
	if c == nil {
		return
	}
	name := nameOf(key)
	if int64(headerSize+len(value)) > c.size {
		c.Delete(key)
		return
	}
	err := c.write(key, value)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if !c.failing {
			c.log.Warn("the cache cannot be written, and logins will take longer after a restart; see to the space and the rights there",
				"file", c.path(name), "error", err)
		}
		c.failing = true
		return
	}
	c.failing = false
	c.note(name, int64(headerSize+len(value)), time.Now())
	c.trim()
}

func (c *Cache) write(key string, value []byte) error {
	f, err := c.temp()
	if err != nil {
		return err
	}
	_, err = f.Write(headerOf(key, value))
	if err == nil {
		_, err = f.Write(value)
	}
	// Not brought to stable storage: the checksum finds out if it did not get there.
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = c.root.Rename(f.name, nameOf(key))
	}
	if err != nil {
		c.root.Remove(f.name)
	}
	return err
}

// Delete forgets the value of key.
func (c *Cache) Delete(key string) {
	if c == nil {
		return
	}
	name := nameOf(key)
	c.root.Remove(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(name)
}

// Close releases the folder. The cache must not be used afterwards.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	return c.root.Close()
}

// touch notes that a file was used, on disk as well for the next process.
func (c *Cache) touch(name string, octets int64) {
	now := time.Now()
	c.mu.Lock()
	old := now.Sub(c.files[name].used) > usedGrain
	if old {
		c.note(name, octets, now)
	}
	c.mu.Unlock()
	if old {
		c.root.Chtimes(name, now, now)
	}
}

// trim removes files until those that stay are within the limit.
func (c *Cache) trim() {
	if c.total <= c.size {
		return
	}
	names := make([]string, 0, len(c.files))
	for name := range c.files {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return c.files[a].used.Compare(c.files[b].used) })
	for _, name := range names {
		// To somewhat less than the limit, so that not each value does this.
		if c.total <= c.size-c.size/16 {
			return
		}
		c.root.Remove(name)
		c.forget(name)
	}
}

func (c *Cache) note(name string, octets int64, used time.Time) {
	c.forget(name)
	f := file{max(octets, leastSize), used}
	c.files[name] = f
	c.total += f.octets
}

func (c *Cache) forget(name string) {
	c.total -= c.files[name].octets
	delete(c.files, name)
}

func (c *Cache) path(name string) string { return c.root.Name() + "/" + name }

// temp creates a file for a value that is being written.
func (c *Cache) temp() (*tempFile, error) {
	name := tempPrefix + rand.Text()
	f, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.root.Name(), err)
	}
	return &tempFile{f, name}, nil
}

type tempFile struct {
	*os.File
	name string // in the folder
}

// nameOf is the file name for a key: a digest, since a key may be long, and may
// name a user.
func nameOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:nameOctets])
}

func isName(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == 2*nameOctets
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func headerOf(key string, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
	b := append(make([]byte, 0, headerSize), magic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return binary.LittleEndian.AppendUint32(b, sum)
}
