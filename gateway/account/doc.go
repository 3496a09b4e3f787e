// Package account turns a login name into an account. Who the user is and where
// the mail lies are two questions:
//
//	typed name ── normal form ──► user ───► who checks the password
//	(folder)      default_domain  or route    own hash:    User.Password
//	              lower_case                  passwd-file: Route.PasswdFile
//	                                          the store:   neither
//
// A name of Config.Users wins over every route, the whole name before name and
// folder; then those who enrolled (Config.Enrolled); then the first route whose pattern fits decides. What the store gets
// to log in with (gateway.Account.Upstream), where it wants a password:
//
//	checked by     target           User                  Password
//	own hash       any              UpstreamUser          UpstreamPassword
//	own hash       master user      UpstreamUser          "", not forwarded
//	own hash       any, User.Tokens UpstreamUser          a token, not forwarded
//	the store      User             UpstreamUser          the client's
//	the store      Route            the login name        the client's
//	passwd-file    Route            the login name        the client's, verified
//	passwd-file    master user      the login name        "", not forwarded
//	passwd-file    Route.Tokens     the login name        a token, not forwarded
//
// Where the store checks the password, a client's bearer token goes on in its
// place (Token). Neither is forwarded empty, so that both being "" always means
// the master user.
//
// # Hashes
//
// Stored passwords are crypt-style hashes, or have one of Dovecot's {SCHEME}
// prefixes. The algorithms behind crypt(3) are github.com/go-crypt/crypt's; a
// hash whose check would cost too much time or memory is refused when it is
// read. A bounded number of costly checks run at a time, and a password found
// right is remembered by a keyed hash for some minutes.
//
// A {SCRAM-SHA-256} hash is also a verifier: its user may prove to know the password
// without sending it (Directory.Prove). So may one with a {PLAIN} secret, for which a
// verifier is made at each login, always with the same salt.
//
// # What a stranger can learn
//
// A wrong name and a wrong password are the same gateway.Refused, and take the
// same time: for a name that does not exist, the password is checked against a
// user's hash all the same and the result thrown away. Only an account whose
// own line in a passwd-file is damaged answers otherwise, since its owner would
// look for a typing error for ever. SCRAM-SHA-256 shows the salt of a name before any
// proof; one that does not exist has a salt made of the name and Config.SaltKey.
package account
