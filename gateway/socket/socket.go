// Package socket makes TCP connections cheaper where little is said at a time.
package socket
