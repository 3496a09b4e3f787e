// Package state keeps what outlives a session and could not be found out again:
// which unique-ids clients know, tokens, journals of what is half done. It is one
// SQLite file in the folder of state.url, beside the disposable folder "cache".
//
// Commands may use the file while a gateway runs: it has a write-ahead log, each
// writer takes its turn, and nobody waits longer than waitLimit. What a call has
// written is on stable storage when it returns.
//
// Every store here is a handful of calls, each complete in itself and with a
// context, so that another kind of server can stand behind them: no transaction
// and no cursor is visible outside.
//
// # Damage
//
// A folder that cannot be used fails Open. A file that is damaged does not: from
// then on each call fails with ErrDamaged and [SYS/TEMP], and says in the log how
// to repair it. What it held is never made up anew in silence: clients would
// download all their mail again. So the file is made beside its place, and a file
// that is empty or of another program counts as damaged too.
package state

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	sqlite "modernc.org/sqlite"

	"pop3gw/gateway"
)

// FileName is the name of the file in its folder. SQLite keeps two more beside it
// while it is in use, with -wal and -shm behind the name.
const FileName = "state.db"

const (
	// applicationID marks the file as one of pop3gw: "pop3".
	applicationID = 0x706f7033

	// waitLimit bounds each call: the wait for another writer, and for the disk.
	waitLimit = 10 * time.Second
	busyLimit = 5 * time.Second // of that, for a writer in another process

	// checkPatience is how long Open waits for the file to be checked. The check of
	// a larger one goes on behind it.
	checkPatience = 2 * time.Second

	readers     = 4   // connections for reading, of all sessions
	cacheOctets = 512 // KiB of pages that each connection may keep
)

// ErrDamaged is in the chain of every error that is for a damaged file.
var ErrDamaged = errors.New("the file is damaged")

var (
	errEmpty   = fmt.Errorf("%w: it is empty", ErrDamaged)
	errForeign = fmt.Errorf("%w: it is not a file of pop3gw", ErrDamaged)
)

// DB is the open file. It is safe for concurrent use.
type DB struct {
	path    string
	log     *slog.Logger
	writer  *sql.DB // one connection: one writer at a time
	reader  *sql.DB
	load    *sql.Stmt // loadQuery of reader; nil if the file is damaged
	recent  *unchanged
	pin     *sql.Conn // keeps the WAL-index in its place for recent
	damaged atomic.Pointer[damage]

	stop     context.CancelFunc // of the check
	checking sync.WaitGroup
}

type damage struct{ err error }

// Open opens the file in the folder dir, for no other user to read, and makes
// what is missing. The error says what is wrong with dir, or that the file is of
// a later version; damage is no error here.
func Open(dir string, log *slog.Logger) (*DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, FileName)
	if err := create(dir, path); err != nil {
		return nil, err
	}
	return openFile(path, log, true)
}

// ErrEarlier is in the chain of OpenAsIs's error for a file of an earlier version.
var ErrEarlier = errors.New("of an earlier version of pop3gw")

// OpenAsIs is Open for a command that changes nothing by looking: a file that is
// missing is fs.ErrNotExist, and one that Open would bring up to date ErrEarlier.
func OpenAsIs(dir string, log *slog.Logger) (*DB, error) {
	path := filepath.Join(dir, FileName)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return openFile(path, log, false)
}

// openFile opens a file that is there. update says that it may be brought to this
// version.
func openFile(path string, log *slog.Logger, update bool) (*DB, error) {
	writer, err := open(path, 1, "rw")
	if err != nil {
		return nil, err
	}
	reader, err := open(path, readers+1, "rw") // with the one that is only kept
	if err != nil {
		writer.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	db := &DB{path: path, log: log, writer: writer, reader: reader, stop: stop}
	if err := db.prepare(ctx, update); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// open returns connections to the file, most at a time. mode is "rw", or "ro" to
// read only.
func open(path string, most int, mode string) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode":    {mode},
		"_txlock": {"immediate"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", busyLimit.Milliseconds()),
			"synchronous(FULL)",
			"foreign_keys(ON)",
			"trusted_schema(OFF)",
			"cell_size_check(ON)",
			fmt.Sprintf("cache_size(-%d)", cacheOctets),
		},
	}.Encode()}
	pool, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(most)
	pool.SetMaxIdleConns(most)
	return pool, nil
}

// prepare brings the file to this version, where it may, and checks it.
func (db *DB) prepare(ctx context.Context, update bool) error {
	err := db.migrate(ctx, update)
	if errors.Is(err, ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	db.load, err = db.reader.PrepareContext(ctx, loadQuery)
	if err = db.unusable(err); errors.Is(err, ErrDamaged) {
		return nil
	} else if err != nil {
		return err
	}
	if db.pin, err = db.reader.Conn(ctx); err != nil {
		return db.unusable(err)
	}
	if _, err := versionOf(ctx, db.pin); err != nil { // which opens the WAL-index
		return db.unusable(err)
	}
	db.recent = watch(db.path)
	checked := make(chan struct{})
	db.checking.Go(func() {
		defer close(checked)
		if err := check(ctx, db.reader); err != nil && ctx.Err() == nil {
			db.failed(err)
		}
	})
	timer := time.NewTimer(checkPatience)
	defer timer.Stop()
	select {
	case <-checked:
	case <-timer.C:
	}
	return nil
}

// check reads the whole file.
func check(ctx context.Context, pool *sql.DB) error {
	var found string
	if err := pool.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("%w: %.200q", ErrDamaged, found)
	}
	return nil
}

// Check reports what is wrong with the file in the folder dir, and changes
// nothing. A file that is missing is none.
func Check(ctx context.Context, dir string) error {
	path := filepath.Join(dir, FileName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return explain(path, errEmpty)
	}
	mode := "ro"
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		mode = "ro&immutable=1" // nobody has it open, and no file is made beside it
	}
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=" + mode}).String())
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := versionOf(ctx, pool); err != nil {
		return explain(path, err)
	}
	if err := check(ctx, pool); err != nil {
		return explain(path, err)
	}
	return nil
}

// Close ends the use of the file. db may be nil.
func (db *DB) Close() error {
	if db == nil {
		return nil
	}
	db.stop()
	db.checking.Wait()
	err := db.recent.close()
	if db.pin != nil {
		err = errors.Join(err, db.pin.Close())
	}
	return errors.Join(err, db.reader.Close(), db.writer.Close())
}

// Err returns the error of every call, if the file is damaged.
func (db *DB) Err() error {
	if d := db.damaged.Load(); d != nil {
		return d.err
	}
	return nil
}

// querier is what a call needs of a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// read runs fn, which reads and does not write. Its error is for a session: see
// failed.
func (db *DB) read(ctx context.Context, fn func(ctx context.Context, q querier) error) error {
	if err := db.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	return db.failed(fn(ctx, db.reader))
}

// write runs fn in a transaction. It is on stable storage when write returns nil,
// and else has no effect.
func (db *DB) write(ctx context.Context, fn func(ctx context.Context, q querier) error) error {
	if err := db.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	return db.failed(inTransaction(ctx, db.writer, fn))
}

func inTransaction(ctx context.Context, pool *sql.DB, fn func(ctx context.Context, q querier) error) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(ctx, tx); err != nil {
		tx.Rollback()
		return err
	}
	return tx.Commit()
}

// failed returns the error of a call in a form for sessions, and remembers damage.
// What is no failure of SQLite is returned as it is.
func (db *DB) failed(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		return e
	}
	err = explain(db.path, err)
	if errors.Is(err, ErrDamaged) {
		if db.damaged.CompareAndSwap(nil, &damage{err}) {
			db.log.Error("the durable state is damaged: logins that need it are refused until it is repaired", "error", cmp.Or(errors.Unwrap(err), err))
		}
		return db.Err()
	}
	return err
}

// Primary result codes of SQLite (https://sqlite.org/rescode.html).
const (
	codePerm     = 3
	codeBusy     = 5
	codeReadOnly = 8
	codeIOErr    = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotADB   = 26
)

// salvage says how to save what can be read of a damaged file, quoted, if anything
// can. The sqlite3 of some distributions has no .recover. What .dump makes of a file
// without a header is not one of pop3gw, and is refused.
func salvage(quoted string, code int, err error) string {
	if code == codeNotADB || errors.Is(err, errEmpty) || errors.Is(err, errForeign) {
		return ""
	}
	return fmt.Sprintf(`, or save what can be read: (sqlite3 %[1]s .dump | sed 's/^ROLLBACK.*/COMMIT;/'; `+
		`for p in user_version application_id; do echo "PRAGMA $p = $(sqlite3 %[1]s "PRAGMA $p");"; done) | sqlite3 repaired.db, `+
		`then cp repaired.db %[1]s and remove the files with -wal and -shm behind the name`, quoted)
}

// explain says what can be done about an error of SQLite, or of a wait that was
// too long.
func explain(path string, err error) error {
	code := 0
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		code = e.Code() & 0xff
	}
	if code == codeCorrupt || code == codeNotADB {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	quoted := strconv.Quote(path)
	switch {
	case errors.Is(err, ErrDamaged):
		return gateway.Unavailable("the gateway's own records are damaged, try again later", fmt.Errorf(
			"%s: %w; stop the gateway and put a backup in its place%s; "+
				"starting without it (moved away) may have every client download its mail again", path, err, salvage(quoted, code, err)))
	case code == codeBusy || errors.Is(err, context.DeadlineExceeded):
		return gateway.Unavailable("the gateway's own records are busy, try again later",
			fmt.Errorf("%s: %w; another process, or a slow disk, kept it for longer than %v", path, err, busyLimit))
	case code == codeFull:
		return gateway.Unavailable("the gateway has no room for its own records, try again later",
			fmt.Errorf("%s: %w; make room on that disk", path, err))
	case code == codeReadOnly || code == codePerm || code == codeCantOpen:
		return gateway.Unavailable("the gateway's own records cannot be used, try again later",
			fmt.Errorf("%s: %w; the gateway's user (uid %d) must be able to write to it and to its folder", path, err, os.Geteuid()))
	case code == codeIOErr:
		return gateway.Unavailable("the gateway's own records cannot be read, try again later",
			fmt.Errorf("%s: %w; see to that disk", path, err))
	case code != 0:
		return gateway.Unavailable("the gateway's own records cannot be used, try again later", fmt.Errorf("%s: %w", path, err))
	}
	return err
}
