package oauth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/chacha20poly1305"
)

// Key seals what is stored, with XChaCha20-Poly1305. What was sealed for one name
// opens under no other.
type Key struct {
	path   string
	secret [chacha20poly1305.KeySize]byte
}

const (
	keyPrefix   = "pop3gw-key-1 " // of the one line of a key file
	keyIDSize   = 8
	sealedForm  = 1 // the first octet of what is sealed
	maxKeyFile  = 1 << 10
	keyFilePerm = 0o600
)

// ErrOtherKey says that something was sealed with another key.
var ErrOtherKey = errors.New("it was stored with another key")

// ErrNoKey says that there is no key file.
var ErrNoKey = errors.New("there is no key file")

// ReadKey reads the key file at path. It is ErrNoKey if there is none, and an
// error that says what to do if others may write to it or it holds no key.
func ReadKey(path string) (*Key, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s: others may write to this key file (mode %04o); chmod 600 it, if it is to be trusted still", path, info.Mode().Perm())
	}
	text := make([]byte, maxKeyFile)
	n, _ := f.Read(text)
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	encoded, ok := strings.CutPrefix(strings.TrimSpace(line), keyPrefix)
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(secret) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%s: it holds no key; it must be the file that pop3gw made, whole", path)
	}
	k := &Key{path: path}
	copy(k.secret[:], secret)
	return k, nil
}

// MakeKey makes a key file, which its owner alone may read, in a folder that
// exists. If there is one meanwhile it is read instead.
func MakeKey(path string) (*Key, error) {
	k := &Key{path: path}
	rand.Read(k.secret[:])
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new*") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "%s%s\n", keyPrefix, base64.StdEncoding.EncodeToString(k.secret[:]))
	err = errors.Join(err, giveToOwner(f, filepath.Dir(path)), f.Chmod(keyFilePerm), f.Sync(), f.Close())
	if err != nil {
		return nil, err
	}
	// As against a rename, this never replaces the key of another process.
	if err := os.Link(f.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return ReadKey(path)
		}
		return nil, err
	}
	return k, syncFolder(filepath.Dir(path))
}

// giveToOwner has a file that root makes be the one's whose folder it is in: a
// command that an administrator types must not lock the gateway out.
func giveToOwner(f *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return f.Chown(int(owner.Uid), int(owner.Gid))
	}
	return nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Exposed reports whether others than its owner may read the key file.
func (k *Key) Exposed() bool {
	info, err := os.Stat(k.path)
	return err == nil && info.Mode().Perm()&0o077 != 0
}

// Path is where the key file is.
func (k *Key) Path() string { return k.path }

// String and GoString keep the key out of logs.
func (*Key) String() string   { return "(key)" }
func (*Key) GoString() string { return "(key)" }

// id tells keys apart and says nothing of them.
func (k *Key) id() []byte {
	sum := sha256.Sum256(append([]byte("pop3gw key id\x00"), k.secret[:]...))
	return sum[:keyIDSize]
}

// Seal returns plain so that it can be stored under name.
func (k *Key) Seal(name string, plain []byte) []byte {
	aead, err := chacha20poly1305.NewX(k.secret[:])
	if err != nil {
		panic(err) // the size is right
	}
	sealed := append([]byte{sealedForm}, k.id()...)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	sealed = append(sealed, nonce...)
	return aead.Seal(sealed, nonce, plain, []byte(name))
}

// Open returns what was sealed under name. It is ErrOtherKey if that was done
// with another key.
func (k *Key) Open(name string, sealed []byte) ([]byte, error) {
	const head = 1 + keyIDSize
	if len(sealed) < head+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead || sealed[0] != sealedForm {
		return nil, errors.New("it is damaged, or of a newer version of pop3gw")
	}
	if !bytes.Equal(sealed[1:head], k.id()) {
		return nil, fmt.Errorf("%w than that in %s", ErrOtherKey, k.path)
	}
	aead, err := chacha20poly1305.NewX(k.secret[:])
	if err != nil {
		return nil, err
	}
	nonce, text := sealed[head:head+chacha20poly1305.NonceSizeX], sealed[head+chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, text, []byte(name))
	if err != nil {
		return nil, errors.New("it is damaged")
	}
	return plain, nil
}
