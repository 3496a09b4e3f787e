package state

import (
	"context"
	"time"
)

const retrievedSchema = `
CREATE TABLE retrieved (
	maildrop TEXT NOT NULL,
	message  BLOB NOT NULL,
	at       INTEGER NOT NULL, -- seconds since 1970
	PRIMARY KEY (maildrop, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX retrieved_at ON retrieved (maildrop, at);
`

// Retrieved remembers when messages were first retrieved, by a key of the maildrop
// and one of the message, which their adapter chooses.
type Retrieved struct{ db *DB }

// Retrieved returns the marks of retrieval.
func (db *DB) Retrieved() *Retrieved { return &Retrieved{db} }

// Mark notes that messages were retrieved at a time. An earlier mark stays.
func (r *Retrieved) Mark(ctx context.Context, maildrop string, at time.Time, messages ...[]byte) error {
	if len(messages) == 0 {
		return nil
	}
	return r.db.write(ctx, func(ctx context.Context, q querier) error {
		for _, m := range messages {
			if _, err := q.ExecContext(ctx, "INSERT INTO retrieved (maildrop, message, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
				maildrop, m, at.Unix()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Before returns the messages that were retrieved before t, most of them at most.
func (r *Retrieved) Before(ctx context.Context, maildrop string, t time.Time, most int) (messages [][]byte, err error) {
	err = r.db.read(ctx, func(ctx context.Context, q querier) error {
		rows, err := q.QueryContext(ctx, "SELECT message FROM retrieved WHERE maildrop = ? AND at < ? ORDER BY at LIMIT ?",
			maildrop, t.Unix(), most)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m []byte
			if err := rows.Scan(&m); err != nil {
				return err
			}
			messages = append(messages, m)
		}
		return rows.Err()
	})
	return messages, err
}

// Forget removes the marks of messages, which are gone from the maildrop.
func (r *Retrieved) Forget(ctx context.Context, maildrop string, messages ...[]byte) error {
	if len(messages) == 0 {
		return nil
	}
	return r.db.write(ctx, func(ctx context.Context, q querier) error {
		for _, m := range messages {
			if _, err := q.ExecContext(ctx, "DELETE FROM retrieved WHERE maildrop = ? AND message = ?", maildrop, m); err != nil {
				return err
			}
		}
		return nil
	})
}
