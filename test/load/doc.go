//go:build real

// Package load runs pop3gw under load and under attack, on a loopback of its own:
// thousands of idle sessions, hundreds of logins a second, guessers from a thousand
// addresses. It takes root.
//
//	go test -tags real -count=1 ./test/load                      small, as test/run does
//	LOAD=full go test -tags real -count=1 -v ./test/load         at full size, some seven minutes
//
// The client shares the processor with what it tries.
package load
