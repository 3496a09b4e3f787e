//go:build real

// Package docker builds pop3gw's image with a real Docker engine and runs the
// compose files as a user would: beside Dovecot, and over Maildirs.
//
// No image registry is needed. The public images that the Dockerfile and the
// compose files name are made here, under the same names: golang from the Go that
// runs the tests, dovecot/dovecot from Debian's packages of Dovecot 2.3, both over
// the folder that "test/unpack --root" filled. An image of that name that is there
// already is used as it is.
package docker
