//go:build real

package docker

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run makes the images, runs the tests and removes all that was made. Two runs
// on one machine would use the same names: the second waits.
func run(m *testing.M) int {
	lock, err := os.OpenFile("/run/pop3gw-test-docker.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		defer lock.Close()
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		err = prepare()
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	if err := removeAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func prepare() error {
	if _, err := docker("version"); err != nil {
		return fmt.Errorf("no Docker engine answers; start one, or let this user use it: %w", err)
	}
	if err := removeAll(); err != nil { // of a run that was killed
		return err
	}
	for _, step := range []struct {
		name string
		run  func() error
	}{{"stand-ins", standIns}, {"modules", serveModules}, {"image", buildImage}} {
		began := time.Now()
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%s: %v\n", step.name, time.Since(began).Round(time.Second))
	}
	return nil
}
