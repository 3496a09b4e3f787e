package state

import (
	"context"
	"time"
)

const tokensSchema = `
CREATE TABLE tokens (
	name    TEXT PRIMARY KEY,
	value   BLOB NOT NULL,
	changed INTEGER NOT NULL -- seconds since 1970
) STRICT;
`

// Tokens are values by name, which whoever puts them here has encrypted.
type Tokens struct{ db *DB }

// Tokens returns the store of tokens.
func (db *DB) Tokens() *Tokens { return &Tokens{db} }

// TokenInfo is what can be told of a token without its key.
type TokenInfo struct {
	Name    string
	Changed time.Time
}

// Get returns the value of name, and whether there is one.
func (t *Tokens) Get(ctx context.Context, name string) (value []byte, ok bool, err error) {
	err = t.db.read(ctx, func(ctx context.Context, q querier) error {
		err := q.QueryRowContext(ctx, "SELECT value FROM tokens WHERE name = ?", name).Scan(&value)
		if noRows(err) {
			return nil
		}
		ok = err == nil
		return err
	})
	return value, ok, err
}

// Put keeps value for name in place of any other.
func (t *Tokens) Put(ctx context.Context, name string, value []byte) error {
	return t.db.write(ctx, func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, `INSERT INTO tokens (name, value, changed) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed = excluded.changed`,
			name, orEmpty(value), time.Now().Unix())
		return err
	})
}

// Delete forgets the value of name, and reports whether there was one.
func (t *Tokens) Delete(ctx context.Context, name string) (found bool, err error) {
	err = t.db.write(ctx, func(ctx context.Context, q querier) error {
		result, err := q.ExecContext(ctx, "DELETE FROM tokens WHERE name = ?", name)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		found = n > 0
		return err
	})
	return found, err
}

// List returns what tokens there are, by name.
func (t *Tokens) List(ctx context.Context) (all []TokenInfo, err error) {
	err = t.db.read(ctx, func(ctx context.Context, q querier) error {
		rows, err := q.QueryContext(ctx, "SELECT name, changed FROM tokens ORDER BY name")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var info TokenInfo
			var seconds int64
			if err := rows.Scan(&info.Name, &seconds); err != nil {
				return err
			}
			info.Changed = time.Unix(seconds, 0)
			all = append(all, info)
		}
		return rows.Err()
	})
	return all, err
}
