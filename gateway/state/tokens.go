package state

import (
	"context"
	"math/rand/v2"
	"time"
)

const tokensSchema = `
CREATE TABLE tokens (
	name     TEXT PRIMARY KEY,
	value    BLOB NOT NULL,
	revision INTEGER NOT NULL, -- random, another one for each value
	changed  INTEGER NOT NULL  -- seconds since 1970
) STRICT;
CREATE TABLE leases (
	name   TEXT PRIMARY KEY,
	holder TEXT NOT NULL,
	until  INTEGER NOT NULL -- milliseconds since 1970
) STRICT;
`

// Tokens are values by name, which whoever puts them here has encrypted. It is an
// oauth.Store.
type Tokens struct{ db *DB }

// Tokens returns the store of tokens.
func (db *DB) Tokens() *Tokens { return &Tokens{db} }

// Load returns the value of name and its revision, which is 0 if there is none.
func (t *Tokens) Load(ctx context.Context, name string) (value []byte, revision int64, err error) {
	err = t.db.read(ctx, func(ctx context.Context, q querier) error {
		err := q.QueryRowContext(ctx, "SELECT value, revision FROM tokens WHERE name = ?", name).Scan(&value, &revision)
		if noRows(err) {
			return nil
		}
		return err
	})
	return value, revision, err
}

// Save keeps value for name in place of the one with the revision old, or of any
// or none for 0. It returns the new revision, or 0 where there is another one than
// old: nothing has changed then.
func (t *Tokens) Save(ctx context.Context, name string, value []byte, old int64) (revision int64, err error) {
	next := newRevision()
	err = t.db.write(ctx, func(ctx context.Context, q querier) error {
		revision = next
		if old == 0 {
			return putToken(ctx, q, name, value, next)
		}
		result, err := q.ExecContext(ctx, "UPDATE tokens SET value = ?, revision = ?, changed = ? WHERE name = ? AND revision = ?",
			orEmpty(value), next, time.Now().Unix(), name, old)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if n == 0 {
			revision = 0
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

func newRevision() int64 {
	for {
		if r := rand.Int64(); r != 0 {
			return r
		}
	}
}

// putToken keeps a value in place of any other.
func putToken(ctx context.Context, q querier, name string, value []byte, revision int64) error {
	_, err := q.ExecContext(ctx, `INSERT INTO tokens (name, value, revision, changed) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value, revision = excluded.revision, changed = excluded.changed`,
		name, orEmpty(value), revision, time.Now().Unix())
	return err
}

// Remove forgets the value of name, and reports whether there was one.
func (t *Tokens) Remove(ctx context.Context, name string) (found bool, err error) {
	return t.db.changeRow(ctx, "DELETE FROM tokens WHERE name = ?", name)
}

// Names are those that have a value, in order.
func (t *Tokens) Names(ctx context.Context) (names []string, err error) {
	err = t.db.read(ctx, func(ctx context.Context, q querier) error {
		rows, err := q.QueryContext(ctx, "SELECT name FROM tokens ORDER BY name")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
		}
		return rows.Err()
	})
	return names, err
}

// Lease makes holder the one who may change the value of name, in all processes,
// until the time is over or Release. held is false while another one is.
func (t *Tokens) Lease(ctx context.Context, name, holder string, until time.Time) (held bool, err error) {
	return t.db.changeRow(ctx, `INSERT INTO leases (name, holder, until) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
		WHERE leases.holder = excluded.holder OR leases.until <= ?`,
		name, holder, until.UnixMilli(), time.Now().UnixMilli())
}

// Release ends a lease, if holder has it.
func (t *Tokens) Release(ctx context.Context, name, holder string) error {
	return t.db.write(ctx, func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, "DELETE FROM leases WHERE name = ? AND holder = ?", name, holder)
		return err
	})
}
