package main

import (
	"runtime/debug"
	"syscall"
)

// abortOnCrash makes the process end by SIGABRT where Go would end it with exit status 2:
// after a fatal error, an unhandled panic, or the SIGABRT of systemd's watchdog. Status 2
// says that the configuration is wrong, and systemd does not start the gateway again then.
// No core file is written, which would hold passwords.
func abortOnCrash() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0
		syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
	debug.SetTraceback("crash")
}
