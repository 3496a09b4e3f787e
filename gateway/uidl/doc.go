// Package uidl gives messages their unique-ids (RFC 1939 §7), and sees to it that
// they keep them.
//
// A message's unique-id is made by a Form from what its store knows of it: a UID
// and UIDVALIDITY, a file name. That is all, as a rule, and nothing is kept. But
// a client that has a message by one unique-id downloads it again by another, and
// so some names are kept in the durable state and win over the form:
//
//	names  messages, by their Key, that are named otherwise than by the form:
//	       those that got an old name back, were told apart from another of the
//	       same name, were named before their store numbered them, or whose name
//	       had to be fetched
//	known  messages, by a fingerprint of their header and their size, that were
//	       retrieved under a name, imported with one, or listed with one and
//	       looked at later (Names.Learner)
//
// When a source of a maildrop gets another form or UIDVALIDITY, its messages are
// looked for among the known, and get their names back. If most of a maildrop's
// names would change even so, the login is refused until the operator allows it.
// For MatchTime after that, and after an import, messages that come are looked
// for as well, since mail may still be on its way to a new server.
//
// # Bounds
//
// Of known, and of names, there are at most twice as many as the maildrop has
// messages, and a thousand. That is looked at when the list has doubled, or some
// sessions have added to it, and for known not within MatchTime: what is gone may
// come then. A message that a client removes in the session that it retrieves it in
// is not kept as known. One takes up about 12 octets and its unique-id.
package uidl
