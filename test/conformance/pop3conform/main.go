// Command pop3conform checks a POP3 server that is running already.
//
//	pop3conform -server localhost:110 -user test -password secret -maildir ~test/Maildir
//	pop3conform -server localhost:110 -user test -password secret -imap localhost:143
//
// The maildrop is emptied and filled again and again: use an account made for
// this. Exit code 1 when a MUST fails, 2 when the checks cannot be made.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"os"

	"pop3gw/test/conformance"
)

func main() {
	server := flag.String("server", "localhost:110", "host:port; cleartext logins must be allowed there")
	user := flag.String("user", "", "login name of an account without mail of value")
	password := flag.String("password", "", "its password")
	maildir := flag.String("maildir", "", "the account's Maildir on this host")
	owner := flag.Int("owner", os.Getuid(), "user id for the files, when run as root")
	imap := flag.String("imap", "", "or: host:port of an IMAP server without TLS that has the same INBOX")
	withTLS := flag.Bool("tls", false, "check STLS too, with any certificate")
	tlsServer := flag.String("tls-server", "", "host:port with TLS from the first octet; implies -tls")
	only := flag.String("only", "", "run the scenarios whose name contains this")
	all := flag.Bool("all", false, "print passed checks too")
	flag.Parse()

	target := conformance.Target{Address: *server, User: conformance.Account{Name: *user, Password: *password}, TLSAddress: *tlsServer}
	if *withTLS || *tlsServer != "" {
		host, _, _ := net.SplitHostPort(*server)
		target.TLS = &tls.Config{ServerName: host, InsecureSkipVerify: true}
	}
	switch {
	case *user == "":
		fail(fmt.Errorf("-user is missing"))
	case *maildir != "":
		store, err := conformance.NewMaildir(*maildir, *owner)
		if err != nil {
			fail(err)
		}
		target.Store = store
	case *imap != "":
		target.Store = &conformance.IMAPAccount{Address: *imap, Account: target.User}
	default:
		fail(fmt.Errorf("one of -maildir and -imap is needed to fill the maildrop"))
	}

	report, err := conformance.Run(target, *only)
	if *all {
		report.WriteAll(os.Stdout)
	}
	report.Write(os.Stdout)
	if err != nil {
		fail(err)
	}
	if len(report.Failed(conformance.MUST)) > 0 {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "pop3conform:", err)
	os.Exit(2)
}
