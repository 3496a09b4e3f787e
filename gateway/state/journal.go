package state

import (
	"context"
	"time"
)

const journalSchema = `
CREATE TABLE journal (
	name    TEXT PRIMARY KEY,
	entry   BLOB NOT NULL,
	written INTEGER NOT NULL -- seconds since 1970
) STRICT;
`

// Journal holds what is half done, one entry by name (of a maildrop, as a rule),
// so that it is ended or undone after a crash.
type Journal struct{ db *DB }

// Journal returns the journal.
func (db *DB) Journal() *Journal { return &Journal{db} }

// Put writes the entry of name in place of any other.
func (j *Journal) Put(ctx context.Context, name string, entry []byte) error {
	return j.db.write(ctx, func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, `INSERT INTO journal (name, entry, written) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, written = excluded.written`,
			name, orEmpty(entry), time.Now().Unix())
		return err
	})
}

// Get returns the entry of name and when it was written, or ok false.
func (j *Journal) Get(ctx context.Context, name string) (entry []byte, written time.Time, ok bool, err error) {
	err = j.db.read(ctx, func(ctx context.Context, q querier) error {
		var seconds int64
		err := q.QueryRowContext(ctx, "SELECT entry, written FROM journal WHERE name = ?", name).Scan(&entry, &seconds)
		if noRows(err) {
			return nil
		}
		written, ok = time.Unix(seconds, 0), err == nil
		return err
	})
	return entry, written, ok, err
}

// Delete removes the entry of name: all of it is done.
func (j *Journal) Delete(ctx context.Context, name string) error {
	return j.db.write(ctx, func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, "DELETE FROM journal WHERE name = ?", name)
		return err
	})
}
