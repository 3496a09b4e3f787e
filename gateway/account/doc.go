// Package account turns a login name into an account: who the user is, where
// the mail lies, and who checks the password.
package account
