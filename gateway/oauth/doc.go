// Package oauth gets bearer tokens for mail servers that take no passwords, and
// keeps and refreshes them (RFC 6749).
//
//	Provider   an authorization server, as a table [oauth.NAME] describes it
//	Grant      what a provider has granted: a refresh token, mostly
//	Keeper     keeps grants under the names of accounts, and makes tokens of them
//	Store      where they outlive the process, sealed with a Key
//
// A grant is got once, with the consent of whoever's mail it is:
//
//	StartDevice, DeviceFlow.Wait     RFC 8628: a code is typed in on another device
//	StartCode, CodeFlow.Finish       RFC 6749 §4.1 with PKCE (RFC 7636): the provider
//	                                 redirects a browser, to a loopback address (RFC
//	                                 8252, Loopback) or to a page of ours
//
// or needs nobody's: GrantClient (client credentials, RFC 6749 §4.4) and
// GrantServiceAccount (a signed JWT that names the mailbox, RFC 7523).
//
// # What the keeper promises
//
//   - A grant is refreshed once, ahead of the token's expiry, however many sessions
//     want the token, and whatever other processes share the store: whoever
//     refreshes holds a lease on the grant there.
//   - A refresh token that replaces another one is stored before it is used.
//   - A grant is removed by Remove alone. One that the provider refuses stays, is
//     not tried again for a while, and its refusal says what to type.
//   - Whoever is refused is told which way to mend it: by a new consent
//     (gateway.CodeAuth), by the operator (CodeSysPerm), or by waiting (CodeSysTemp).
//   - No error and no log line holds a token, a code, a verifier or a client secret.
package oauth
