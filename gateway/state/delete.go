package state

import "context"

// deleteRow runs a DELETE of one row at most, and reports whether there was one.
func (db *DB) deleteRow(ctx context.Context, statement string, args ...any) (found bool, err error) {
	err = db.write(ctx, func(ctx context.Context, q querier) error {
		result, err := q.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		found = n > 0
		return err
	})
	return found, err
}
