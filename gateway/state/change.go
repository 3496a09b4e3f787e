package state

import "context"

// changeRow runs a statement that changes one row at most, and reports whether one was.
func (db *DB) changeRow(ctx context.Context, statement string, args ...any) (found bool, err error) {
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
