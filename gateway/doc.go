// Package gateway is a POP3 server that keeps no mail of its own: Accounts say
// who a client is, an Adapter opens its Maildrop, and everything else about POP3
// is here.
//
// # A session
//
// The states of RFC 1939 §3 are tables of commands. A command that is not in the
// table of the current state is an error, so that no command tests the state.
//
//	AUTHORIZATION  USER and PASS, APOP, AUTH, STLS, UTF8; QUIT ends the session
//	    │ the login: Accounts.Login, then Adapter.Open, which locks and lists
//	TRANSACTION    STAT, LIST, UIDL, RETR, TOP, DELE, RSET, NOOP
//	    │ QUIT, and nothing else
//	UPDATE         Maildrop.Delete of what is marked or expired, Close, and then the reply
//
// CAPA and LANG are in both tables. One goroutine runs a session. It ends by
// QUIT, by the client's going away, by a limit, by Shutdown or by a panic; in
// each case the maildrop is closed, and in all but the first nothing is removed.
// UPDATE, once entered, goes on when the client is gone, up to Limits.UpdateTimeout
// or the end of Shutdown's patience.
//
// # Numbers, marks and octets
//
// A Maildrop is a list that does not change: message number n is index n-1 from
// the login to the end, whatever others do to the store. Numbers, deletion marks
// and totals are kept in a snapshot here, and adapters know none of them. DELE
// sets a mark, RSET takes all off.
//
// Sizes are octets as RETR sends them, with CRLF line ends and before dots are
// doubled. Package wire counts them in the code that writes them. A store that
// was wrong about a message is corrected once RETR has sent it.
//
// A message is complete or visibly broken: "+OK" waits for its first octets, the
// final dot for the reader's io.EOF and Close, and after an error between them
// the connection ends without the dot.
//
// A maildrop has one session at a time (RFC 1939 §4). LockPolicy says what a second
// one gets: CodeInUse, its turn, or the maildrop itself. A session that is taken over
// ends as if its client had gone, unless it has come to UPDATE, which is waited for.
//
// # What adapters owe
//
//   - Open takes the lock, by Locks.Lock and only once a password was right; Close
//     releases it.
//   - A listing that fails fails Open. It is never an empty maildrop.
//   - Order, unique-ids and sizes are the same in the next session.
//   - A reader's io.EOF, bare and not wrapped, means that the message is whole.
//   - Nothing is removed but by Delete, and reported as removed only once it is
//     gone and that is on stable storage. A Policy may say otherwise: see
//     OutcomeTeller.
//   - Errors for the client are *Error, in words that hold no secret; all others
//     go to the log alone.
//   - Calls return soon after their ctx ends.
//
// The suite in maildroptest tries, on any adapter, what can be seen from outside.
//
// # Standards
//
//	RFC 1939  POP3                         Yes, with TOP, UIDL, APOP
//	RFC 2449  CAPA, response codes         Yes; EXPIRE where messages expire (Policy.ExpireAfter)
//	RFC 2595  STLS                         Yes
//	RFC 3206  AUTH, SYS/TEMP, SYS/PERM     Yes
//	RFC 4422  EXTERNAL                     Yes, by TLS client certificates
//	RFC 4616  PLAIN                        Yes; SASLprep is left to who checks the password
//	RFC 5034  AUTH                         Yes, with PLAIN, LOGIN, SCRAM-SHA-256, OAUTHBEARER, XOAUTH2; no mechanism has a security layer
//	RFC 5802  SCRAM                        Yes, as SCRAM-SHA-256 (RFC 7677); no channel binding (-PLUS)
//	RFC 6856  UTF8, LANG                   Partial, see below
//	RFC 7628  OAUTHBEARER                  Yes, handed through to the store; no discovery (§4.3)
//	RFC 8314  implicit TLS                 Yes
//	          PROXY protocol 1 and 2       Yes, from ListenerOptions.ProxyFrom alone, see below
//
// Deliberate departures:
//
//   - The login has a time limit in all, Limits.LoginTimeout, shorter than the
//     ten minutes of RFC 1939 §3: whoever has not logged in holds a connection
//     and nothing else. The inactivity timer is for the sessions after it.
//   - A session ends after Limits.MaxSession, and one whose client takes less than
//     Limits.MinWriteRate, like one that is idle: without UPDATE and without a
//     word. A maildrop is not to be held for ever.
//   - Messages are sent as they are stored, with and without UTF8: RFC 6856 §2
//     would have those with 8-bit headers downgraded for clients without it. They
//     have always got them as they are, and a changed message fits neither its
//     size nor its signature.
//   - LANG knows English, the language of all replies, and what a client chooses
//     changes nothing.
//   - APOP and SCRAM-SHA-256, where ListenerOptions.Mechanisms names them, are
//     allowed without TLS whatever CleartextLogin says: they show no password.
//     Unnamed, SCRAM-SHA-256 follows CleartextLogin, as the mail behind it is not
//     hidden.
//   - Commands may end in LF alone, and spaces may stand before and behind
//     arguments. The lines of AUTH and PASS may have 16 KB, since they carry
//     tokens; others have the 255 octets of RFC 2449 §4.
//   - OAUTHBEARER wants the name of the user, which RFC 7628 §3.1 leaves out where
//     it can be read from the token: the gateway cannot read one.
//   - AUTH without an argument lists the mechanisms, as many clients ask.
//   - At Shutdown a waiting client gets one -ERR that it did not ask for, lest it
//     take the end for that of a QUIT. When the inactivity timer expires it gets
//     none (RFC 1939 §3).
//   - QUIT answers -ERR and ends the session when not all could be removed; what
//     could stays removed.
//   - A stored line that ends in a bare LF counts as a line: it is sent with CRLF
//     and its first dot is doubled. A CR alone is an octet like any other.
//   - Who is in ListenerOptions.ProxyFrom must send a PROXY header and has 10
//     seconds for it; without one, or with a wrong one, the connection ends, as
//     does one with a header from anybody else. Behind LOCAL and UNKNOWN the client
//     is the balancer itself. A client on loopback is on this machine only if its
//     balancer is too. What follows the addresses (TLVs) is not looked at.
//   - ListenerOptions.ReplaceNUL and EndHeader change messages for clients that
//     hang on them as they are.
package gateway
