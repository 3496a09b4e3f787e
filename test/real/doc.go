//go:build real

// Package real runs pop3gw between real programs: Dovecot, Courier and Cyrus as
// IMAP servers behind it, nine POP3 clients before it. Every server is started
// privately, on loopback ports and below a temporary folder, with generated
// mail, and is gone when its test ends.
//
// The tests need root (other owners for mail, mount namespaces for servers with
// fixed paths) and the programs that test/run installs. A program that is
// missing fails its test; nothing is skipped.
package real
