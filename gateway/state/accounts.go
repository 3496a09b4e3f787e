package state

import (
	"context"
	"time"
)

const accountsSchema = `
CREATE TABLE accounts (
	name     TEXT PRIMARY KEY,
	upstream TEXT NOT NULL,
	password TEXT NOT NULL,
	provider TEXT NOT NULL,
	issuer   TEXT NOT NULL,
	subject  TEXT NOT NULL,
	changed  INTEGER NOT NULL -- seconds since 1970
) STRICT;
`

// Accounts are those that users have enrolled themselves.
type Accounts struct{ db *DB }

// Accounts returns the store of enrolled accounts.
func (db *DB) Accounts() *Accounts { return &Accounts{db} }

// Account is one of them.
type Account struct {
	Name            string // login name
	Upstream        string // name at the mail server
	Password        string // hash
	Provider        string // name of the provider that its tokens come from
	Issuer, Subject string // who enrolled it
	Changed         time.Time
}

const accountColumns = "name, upstream, password, provider, issuer, subject, changed"

func scanAccount(scan func(...any) error) (a Account, err error) {
	var seconds int64
	err = scan(&a.Name, &a.Upstream, &a.Password, &a.Provider, &a.Issuer, &a.Subject, &seconds)
	a.Changed = time.Unix(seconds, 0)
	return a, err
}

// Get returns the account called name, and whether there is one.
func (s *Accounts) Get(ctx context.Context, name string) (a Account, ok bool, err error) {
	err = s.db.read(ctx, func(ctx context.Context, q querier) error {
		var err error
		a, err = scanAccount(q.QueryRowContext(ctx, "SELECT "+accountColumns+" FROM accounts WHERE name = ?", name).Scan)
		if noRows(err) {
			a = Account{}
			return nil
		}
		ok = err == nil
		return err
	})
	return a, ok, err
}

// Put keeps an account, and token as Tokens.Save does for its name, in place of any
// other of the same Issuer and Subject. Nothing is kept where there is one of somebody
// else.
func (s *Accounts) Put(ctx context.Context, a Account, token []byte) (kept bool, err error) {
	err = s.db.write(ctx, func(ctx context.Context, q querier) error {
		result, err := q.ExecContext(ctx, "INSERT INTO accounts ("+accountColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET upstream = excluded.upstream, password = excluded.password, provider = excluded.provider, changed = excluded.changed
			WHERE accounts.issuer = excluded.issuer AND accounts.subject = excluded.subject`,
			a.Name, a.Upstream, a.Password, a.Provider, a.Issuer, a.Subject, a.Changed.Unix())
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if kept = n > 0; err != nil || !kept {
			return err
		}
		return putToken(ctx, q, a.Name, token, newRevision())
	})
	return kept && err == nil, err
}

// Delete forgets the account called name, and reports whether there was one.
func (s *Accounts) Delete(ctx context.Context, name string) (found bool, err error) {
	return s.db.changeRow(ctx, "DELETE FROM accounts WHERE name = ?", name)
}

// List returns all accounts, by name.
func (s *Accounts) List(ctx context.Context) (all []Account, err error) {
	err = s.db.read(ctx, func(ctx context.Context, q querier) error {
		rows, err := q.QueryContext(ctx, "SELECT "+accountColumns+" FROM accounts ORDER BY name")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			a, err := scanAccount(rows.Scan)
			if err != nil {
				return err
			}
			all = append(all, a)
		}
		return rows.Err()
	})
	return all, err
}
