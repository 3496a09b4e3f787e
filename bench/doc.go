// Bench measures pop3gw against Dovecot: the same POP3 work on copies of the
// same mail, in turns, by a client that checks what it measures.
//
//	go run ./bench                          all of it, some ten minutes
//	go run ./bench -short                   small sizes, to see that it works
//	go run ./bench -only download           the works of this name
//	go run ./bench -svg docs/performance.svg -doc docs/performance.md
//
// It needs Linux, root (Dovecot does) and the Debian packages dovecot-pop3d and
// dovecot-imapd. Everything it starts listens on loopback, keeps its files below
// one temporary folder, and is gone when it ends.
//
// The client shares the cores with what it measures. A third contender, a server
// in this process that sends canned replies, shows how far the client could count.
package main
