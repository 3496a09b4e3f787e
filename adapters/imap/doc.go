// Package imap opens maildrops in mailboxes of an IMAP server.
//
// A maildrop holds one connection. The mailbox is opened with EXAMINE, so that
// reading changes nothing, and listed with the size of each message; a server
// that tells no UIDNEXT, such as Courier, needs SELECT to make its UIDs last.
// Messages are addressed by UID alone: sequence numbers shift when others remove
// mail, and a UID means one message for as long as UIDVALIDITY stays (RFC 9051
// §2.3.1.1). So a connection that was lost is replaced, once for each command,
// and the session goes on if UIDVALIDITY is still the same.
//
// A listing is remembered, in memory and on disk, and a poll asks for what has
// changed: UIDVALIDITY, UIDNEXT and the number of messages prove which it still
// has. Login, EXAMINE and a search that checks the listing are one flight behind
// the greeting. A connection is kept for the next session of the same user with
// the same password, and then there is no login either.
//
// Connections are counted for each server, in all and by account, and sessions
// beyond what is allowed wait for their turn. An account that its server refuses for
// a limit or a failure is left alone for a while: see throttle.go for the words by
// which that is known.
//
// UPDATE selects the mailbox for writing and removes exactly the messages that
// are marked: STORE \Deleted and UID EXPUNGE (RFC 4315), or MOVE (RFC 6851). It
// never sends CLOSE, and EXPUNGE only under guard (guarded.go), since both remove
// what other programs have flagged.
// Answers of OK are not believed: a SEARCH tells what is really gone.
package imap
