// Package enrol is a page on which users make themselves a POP3 password for a
// mailbox that takes none: they prove at the provider who they are, and agree that
// the gateway reads their mail.
//
//	GET  /          choose the provider
//	POST /start     off to the provider, with state, nonce and PKCE (oauth.CodeFlow)
//	GET  /callback  back from there; the id_token says whose mailbox it is
//	GET  /account   what is about to be made, or replaced
//	POST /password  makes it; the answer shows the password, once
//
// A visit is bound to one browser by a cookie and ends after a while. It begins at
// /start; before that nothing is kept. Its cookie is another one behind the
// provider, so that nobody can have planted it.
//
// Whoever proves an address gets the account with that name and no other: the
// address must be verified by the provider, its domain be one of Terms.Domains,
// and an account that exists be of the same user at the same provider.
package enrol
