package state

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// steps make the tables, and change those of earlier versions. Step n takes a file
// from version n to n+1; once released, a step never changes.
var steps = []string{
	tokensSchema + journalSchema + retrievedSchema,
	uidlsSchema,
	accountsSchema,
	uidlsLooked,
}

// create makes the file if it is missing. It gets its place when it is whole, so
// that an empty or half a file is never one that is being made.
func create(dir, path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	temp := filepath.Join(dir, "tmp-"+rand.Text())
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			os.Remove(temp + suffix)
		}
	}()
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(giveToOwner(f, dir), f.Close())
	if err != nil {
		return err
	}
	pool, err := open(temp, 1, "rw")
	if err != nil {
		return err
	}
	_, err = pool.Exec(fmt.Sprintf("PRAGMA journal_mode = WAL; PRAGMA application_id = %d", applicationID))
	if err = errors.Join(err, pool.Close()); err != nil {
		return fmt.Errorf("%s: %w", temp, err)
	}
	// Another process may do the same: whoever is first wins.
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// giveToOwner has a file that root makes be the one's whose folder it is in: a
// command that an administrator types must not lock the gateway out. SQLite does so
// for the two files beside it.
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// versionOf returns how many steps a file has behind it. One that is not ours is
// ErrDamaged.
func versionOf(ctx context.Context, q querier) (version int, err error) {
	var id int
	if err := q.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return 0, err
	}
	if id != applicationID {
		return 0, errForeign
	}
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version, err
}

// migrate brings the file to this version, where it may. The error is ErrDamaged for damage,
// which has been noted; any other says why the file cannot be used at all.
func (db *DB) migrate(ctx context.Context, update bool) error {
	info, err := os.Stat(db.path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return db.failed(errEmpty)
	}
	version, err := versionOf(ctx, db.writer)
	if err != nil {
		return db.unusable(err)
	}
	if version > len(steps) {
		return fmt.Errorf("%s is of a later version of pop3gw (%d, this one knows %d); run that version, or put back a backup from before", db.path, version, len(steps))
	}
	// One that was repaired, or copied by another program, has lost its write-ahead log.
	if _, err := db.writer.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
		return db.unusable(err)
	}
	if version < len(steps) && !update {
		return fmt.Errorf("%s is %w (%d, this one makes %d); the gateway brings it up to date when it starts", db.path, ErrEarlier, version, len(steps))
	}
	err = inTransaction(ctx, db.writer, func(ctx context.Context, q querier) error {
		version, err := versionOf(ctx, q) // another process may have been here
		if err != nil {
			return err
		}
		for ; version < len(steps); version++ {
			if _, err := q.ExecContext(ctx, steps[version]); err != nil {
				return fmt.Errorf("making version %d of its tables: %w", version+1, err)
			}
			if _, err := q.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+1)); err != nil {
				return err
			}
		}
		return nil
	})
	return db.unusable(err)
}

// unusable is failed for the operator who starts the gateway: what is not damage
// is an error in his words.
func (db *DB) unusable(err error) error {
	err = db.failed(err)
	if err == nil || errors.Is(err, ErrDamaged) {
		return err
	}
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}

// noRows reports whether err says that there is no such row.
func noRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// orEmpty is b, or a value without an octet: nil would be NULL.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
