package state

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"
)

const uidlsSchema = `
CREATE TABLE maildrops (
	id      INTEGER PRIMARY KEY,
	user    TEXT NOT NULL,
	folder  TEXT NOT NULL,
	version INTEGER NOT NULL, -- of its chunks and of matching
	sources TEXT NOT NULL,    -- JSON: [{"Name":...}]
	count   INTEGER NOT NULL, -- messages
	until   INTEGER NOT NULL, -- seconds since 1970
	allowed INTEGER NOT NULL, -- 0 or 1
	used    INTEGER NOT NULL, -- seconds since 1970
	UNIQUE (user, folder)
) STRICT;
CREATE TABLE chunks (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	maildrop INTEGER NOT NULL REFERENCES maildrops (id) ON DELETE CASCADE,
	kind     INTEGER NOT NULL,
	data     BLOB NOT NULL,
	checksum INTEGER NOT NULL -- CRC-32C of data
) STRICT;
CREATE INDEX chunks_of ON chunks (maildrop, kind);
`

const uidlsLooked = `
ALTER TABLE maildrops ADD COLUMN looked INTEGER NOT NULL DEFAULT 0; -- 0 or 1
`

// UIDLs remembers the unique-ids of maildrops: which of their messages are named
// otherwise than by rule, and by which name clients know what they have retrieved.
// Both are lists whose form is up to package uidl, kept in chunks.
type UIDLs struct{ db *DB }

// UIDLs returns the store of unique-ids.
func (db *DB) UIDLs() *UIDLs { return &UIDLs{db} }

// Maildrop is what is known of the maildrop of one user, whatever adapter has it.
type Maildrop struct {
	User, Folder string // as in gateway.Account

	Version int64     // another one where names or chunks are others
	Sources []Source  // what its mail was last listed from; nil if it never was
	Count   int       // messages that were there when its last session ended
	Match   time.Time // until then messages that come are looked for among the known
	Looked  bool      // those that were there when Match was set have been
	Allowed bool      // the operator lets its unique-ids change, once
}

// Source is a mailbox that the messages of a maildrop come from, and what makes
// the unique-ids there what they are: where one of these is another, so are they.
type Source struct {
	Name     string // "" for the first
	Form     string
	Validity string
}

// Kind is what a chunk holds.
type Kind int

const (
	NamesChunk Kind = 1 // unique-ids that are not those of the form
	KnownChunk Kind = 2 // messages that were retrieved, or imported
)

// Chunk is a part of a list. Later chunks have higher IDs.
type Chunk struct {
	ID   int64
	Data []byte
}

// loadQuery is prepared, since each login asks it.
const loadQuery = "SELECT version, sources, count, until, looked, allowed FROM maildrops WHERE user = ? AND folder = ?"

// Load returns what is known of a maildrop, and whether anything is. Sources are not
// to be changed.
func (u *UIDLs) Load(ctx context.Context, user, folder string) (m Maildrop, ok bool, err error) {
	if err := u.db.Err(); err != nil {
		return m, false, err
	}
	return u.db.recent.load(ownerOf{user, folder}, func() (m Maildrop, ok bool, err error) {
		err = u.db.read(ctx, func(ctx context.Context, q querier) error {
			var sources string
			var until int64
			err := u.db.load.QueryRowContext(ctx, user, folder).
				Scan(&m.Version, &sources, &m.Count, &until, &m.Looked, &m.Allowed)
			if noRows(err) {
				return nil
			}
			if err == nil {
				err = decodeSources(sources, &m)
			}
			m.User, m.Folder, m.Match, ok = user, folder, time.Unix(until, 0), err == nil
			return err
		})
		return m, ok, err
	})
}

func decodeSources(sources string, m *Maildrop) error {
	if err := json.Unmarshal([]byte(sources), &m.Sources); err != nil {
		return fmt.Errorf("%w: sources of a maildrop: %w", ErrDamaged, err)
	}
	return nil
}

// List returns all maildrops of a user, or of all users if user is "".
func (u *UIDLs) List(ctx context.Context, user string) (all []Maildrop, err error) {
	err = u.db.read(ctx, func(ctx context.Context, q querier) error {
		rows, err := q.QueryContext(ctx, `SELECT user, folder, version, sources, count, until, looked, allowed FROM maildrops
			WHERE ?1 = '' OR user = ?1 ORDER BY user, folder`, user)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m Maildrop
			var sources string
			var until int64
			if err := rows.Scan(&m.User, &m.Folder, &m.Version, &sources, &m.Count, &until, &m.Looked, &m.Allowed); err != nil {
				return err
			}
			if err := decodeSources(sources, &m); err != nil {
				return err
			}
			m.Match = time.Unix(until, 0)
			all = append(all, m)
		}
		return rows.Err()
	})
	return all, err
}

// Chunks returns the chunks of one kind, the oldest first. One that is not what
// was written is ErrDamaged.
func (u *UIDLs) Chunks(ctx context.Context, user, folder string, kind Kind) (chunks []Chunk, err error) {
	err = u.db.read(ctx, func(ctx context.Context, q querier) error {
		rows, err := q.QueryContext(ctx, `SELECT c.id, c.data, c.checksum FROM chunks c JOIN maildrops m ON m.id = c.maildrop
			WHERE m.user = ? AND m.folder = ? AND c.kind = ? ORDER BY c.id`, user, folder, kind)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c Chunk
			var checksum uint32
			if err := rows.Scan(&c.ID, &c.Data, &checksum); err != nil {
				return err
			}
			if crc32.Checksum(c.Data, castagnoli) != checksum {
				return fmt.Errorf("%w: unique-ids of %q have another checksum (to do without these alone: DELETE FROM chunks WHERE id = %d)", ErrDamaged, user, c.ID)
			}
			chunks = append(chunks, c)
		}
		return rows.Err()
	})
	return chunks, err
}

// Extent is how much there is of one kind.
type Extent struct {
	Chunks, Octets int
	First          int // octets of the oldest chunk
}

// Extent returns how much of one kind there is.
func (u *UIDLs) Extent(ctx context.Context, user, folder string, kind Kind) (e Extent, err error) {
	err = u.db.read(ctx, func(ctx context.Context, q querier) error {
		var oldest int64 // what SQLite returns length(data) of
		return q.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(length(data)), 0), coalesce(min(c.id), 0), coalesce(length(data), 0)
			FROM chunks c JOIN maildrops m ON m.id = c.maildrop
			WHERE m.user = ? AND m.folder = ? AND c.kind = ?`, user, folder, kind).Scan(&e.Chunks, &e.Octets, &oldest, &e.First)
	})
	return e, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Change is what Apply does, all of it or nothing.
type Change struct {
	Listed  []Source   // the new Sources, unless nil
	Count   int        // the new Count, if Listed is set
	Match   *time.Time // the new Match, unless nil; Looked is false then
	Looked  bool       // Looked becomes true
	Allowed *bool      // the new Allowed, unless nil

	Add     []Addition // new chunks
	Replace []Addition // new chunks in place of those up to Through
}

// Addition is a new chunk.
type Addition struct {
	Kind    Kind
	Through int64 // the last chunk that it replaces; unused in Change.Add
	Data    []byte
}

// Apply changes what is known of a maildrop, which it creates if need be.
func (u *UIDLs) Apply(ctx context.Context, user, folder string, c Change) error {
	return u.db.write(ctx, func(ctx context.Context, q querier) error {
		now := time.Now().Unix()
		var id int64
		err := q.QueryRowContext(ctx, `INSERT INTO maildrops (user, folder, version, sources, count, until, allowed, used)
			VALUES (?, ?, 1, '[]', 0, 0, 0, ?) ON CONFLICT (user, folder) DO UPDATE SET used = excluded.used RETURNING id`,
			user, folder, now).Scan(&id)
		if err != nil {
			return err
		}
		exec := func(query string, args ...any) {
			if err == nil {
				_, err = q.ExecContext(ctx, query, args...)
			}
		}
		if c.Listed != nil {
			sources, marshalErr := json.Marshal(c.Listed)
			err = marshalErr
			exec("UPDATE maildrops SET sources = ?, count = ? WHERE id = ?", string(sources), c.Count, id)
		}
		if c.Match != nil {
			exec("UPDATE maildrops SET until = ?, looked = 0, version = version + 1 WHERE id = ?", c.Match.Unix(), id)
		}
		if c.Looked {
			exec("UPDATE maildrops SET looked = 1 WHERE id = ?", id)
		}
		if c.Allowed != nil {
			exec("UPDATE maildrops SET allowed = ? WHERE id = ?", *c.Allowed, id)
		}
		named := false
		for _, r := range c.Replace {
			exec("DELETE FROM chunks WHERE maildrop = ? AND kind = ? AND id <= ?", id, r.Kind, r.Through)
			named = named || r.Kind == NamesChunk
		}
		for _, a := range append(c.Replace[:len(c.Replace):len(c.Replace)], c.Add...) {
			if len(a.Data) > 0 {
				exec("INSERT INTO chunks (maildrop, kind, data, checksum) VALUES (?, ?, ?, ?)", id, a.Kind, a.Data, crc32.Checksum(a.Data, castagnoli))
				named = named || a.Kind == NamesChunk
			}
		}
		if named {
			exec("UPDATE maildrops SET version = version + 1 WHERE id = ?", id)
		}
		return err
	})
}
