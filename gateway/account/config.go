package account

import (
	"fmt"
	"log/slog"
	"time"

	"pop3gw/gateway"
)

// Config is what a Directory is made of.
type Config struct {
	Users  []User  // names with a password of their own; they win over every route
	Routes []Route // everybody else; the first whose pattern fits decides

	// Enrolled, where it is not nil, finds users who have made themselves an
	// account, by name in lower case, and says whether there is one. They come
	// behind Users and before Routes. They have a Password of HashSCRAM's.
	Enrolled func(name string) (User, bool, error)
	// EnrolledPolicies are those that they may have.
	EnrolledPolicies []gateway.Policy

	// DefaultDomain is appended as "@domain" to a name that has no "@".
	// "" appends nothing.
	DefaultDomain string

	// LowerCase folds the whole login name, local part and domain, to lower
	// case. Folders are never folded.
	LowerCase bool

	// MaxHashing is the number of costly password checks at a time; others
	// wait. 0 is one for each processor the process may use.
	MaxHashing int

	// RememberFor is how long a verified password is good without another
	// costly check, counted from the check. 0 is 5 minutes, negative is never.
	RememberFor time.Duration

	// Before, where it is not nil, is the directory that this one takes the place
	// of: its memory of verified passwords goes on, and its costly checks are counted
	// together with those of this one. MaxHashing and RememberFor are then its own.
	Before *Directory

	// SaltKey makes up the salts of SCRAM-SHA-256 for names that do not exist. It
	// should be secret and last, lest they be told from others by changing. nil
	// is a key of this process.
	SaltKey []byte

	// Log gets a warning for each line of a passwd-file that cannot be used.
	// nil discards them.
	Log *slog.Logger
}

// User is one login name.
type User struct {
	Name string // as typed by the client; brought to the normal form by New

	// Password is a hash in crypt style ("$argon2id$...") or with a scheme of
	// Dovecot ("{SSHA}...", "{PLAIN}secret"). "" leaves the check to the store,
	// which gets the client's password under UpstreamUser. With a Password, a
	// store that wants one needs UpstreamPassword or a master user.
	Password string

	Target Target

	// UpstreamUser and UpstreamPassword log in where the store checks
	// passwords. UpstreamUser is Name's normal form if "".
	UpstreamUser, UpstreamPassword string

	// Tokens, where it is not nil, makes what UpstreamUser logs in with, in place
	// of UpstreamPassword. It then needs a Password. MakeTokens, where it is not
	// nil, makes Tokens.
	Tokens     gateway.Tokens
	MakeTokens TokenMaker

	// Policy is what becomes of the user's mail, in place of the adapter's.
	Policy gateway.Policy
}

// TokenMaker returns what makes tokens for a login name in its normal form, whose
// mail is that of upstream at the store.
type TokenMaker func(name, upstream string) gateway.Tokens

// String and LogValue leave the secrets out.
func (u User) String() string       { return fmt.Sprintf("user %q", u.Name) }
func (u User) LogValue() slog.Value { return slog.StringValue(u.String()) }

// Route is where the names that fit a pattern go.
type Route struct {
	Pattern string // "*" stands for any octets, "?" for one character; case does not matter
	Target  Target

	// PasswdFile is the path of a file in the format of Dovecot's passwd-file
	// that holds the hashes of this route's users. "" leaves the check to the
	// store. Where the store wants a password too and has no master user, the
	// client's is passed on once it was verified: the file then says who may
	// use POP3, and both have the same passwords.
	PasswdFile string

	// MakeTokens, where it is not nil, makes the tokens that the gateway logs in
	// with. It then needs a PasswdFile.
	MakeTokens TokenMaker

	// Policy is what becomes of the mail of the users, in place of the adapter's.
	Policy gateway.Policy
}

// Target is an adapter and what it can do.
type Target struct {
	Adapter gateway.Adapter
	Name    string // gateway.Account's AdapterName

	// Folders lets name+folder, name+folder@domain and name@domain+folder open
	// another folder of the user name or name@domain.
	Folders bool

	// ChecksPasswords says that the store wants a user name and a password, and
	// so can check a client's: true for IMAP, false for Maildir.
	ChecksPasswords bool

	// MasterUser says that the adapter logs in with credentials of its own on
	// behalf of any user. It then gets the name alone, and the password is
	// checked here: every user has a hash, every route a PasswdFile.
	MasterUser bool
}

// ConfigError says which entry of a Config is wrong.
type ConfigError struct {
	Table string // "users", "routes" or "login", as the configuration file calls them
	Index int    // 0-based entry of Users or Routes; -1 for none
	Key   string // key within the entry: "name", "password", "users", "passwd_file"...
	Err   error  // what was found and what to change
}

func (e *ConfigError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("%s.%s: %v", e.Table, e.Key, e.Err)
	}
	return fmt.Sprintf("%s, entry %d, %s: %v", e.Table, e.Index+1, e.Key, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }
