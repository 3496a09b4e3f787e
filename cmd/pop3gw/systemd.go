package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// What systemd is told, and what it hands over: sd_notify(3), sd_listen_fds(3).
// Without systemd none of it has an effect.

// notify tells systemd about the service's state.
func (s *service) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd could not be told", "state", state, "error", err)
	}
}

const notifyStopping = daemon.SdNotifyStopping

// notifyReady says that the service is up, or up again.
func (s *service) notifyReady() {
	s.notify(fmt.Sprintf("%s\nSTATUS=Serving on %d listeners", daemon.SdNotifyReady, len(s.listeners)))
}

// notifyReloading says that the service is busy with a reload (the time is what
// Type=notify-reload wants).
func (s *service) notifyReloading() {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	s.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// feedWatchdog tells the watchdog of systemd (WatchdogSec=), if there is one, that
// sessions can still be counted: that needs the locks that every session needs.
func (s *service) feedWatchdog(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the watchdog of systemd is not fed", "error", err)
	}
	if interval <= 0 {
		return
	}
	ticker := time.NewTicker(interval / 3)
	defer ticker.Stop()
	for {
		s.notify(fmt.Sprintf("%s\nSTATUS=Serving %d sessions on %d listeners", daemon.SdNotifyWatchdog, len(s.server.Sessions()), len(s.listeners)))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// inherited are the sockets that systemd listens on for pop3gw (pop3gw.socket).
func inherited() ([]net.Listener, error) {
	var open []net.Listener
	passed, err := activation.Listeners()
	for i, l := range passed {
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			err = errors.Join(err, fmt.Errorf("socket %d that systemd passes is no TCP socket that listens; correct ListenStream= in pop3gw.socket", i+1))
			continue
		}
		open = append(open, &keptAliveListener{tcp})
	}
	if err != nil {
		closeAll(open)
		return nil, err
	}
	return open, nil
}

// takeInherited takes the socket for an address out of open, or nil.
func takeInherited(open *[]net.Listener, address string) net.Listener {
	best, fit := -1, 0
	for i, l := range *open {
		if f := fits(l.Addr().(*net.TCPAddr).AddrPort(), address); f > fit {
			best, fit = i, f
		}
	}
	if best < 0 {
		return nil
	}
	l := (*open)[best]
	*open = slices.Delete(*open, best, best+1)
	return l
}

// fits says how well a socket fits the address of a listener: 2 is the same, 1 is
// all of this machine's by another name ("0.0.0.0:110", "[::]:110", ":110"), 0 is
// not at all.
func fits(socket netip.AddrPort, address string) int {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil || want.Port != int(socket.Port()) {
		return 0
	}
	ip, _ := netip.AddrFromSlice(want.IP)
	ip = ip.Unmap()
	switch have := socket.Addr().Unmap(); {
	case ip.IsValid() && ip == have:
		return 2
	case (!ip.IsValid() || ip.IsUnspecified()) && have.IsUnspecified():
		return 1
	}
	return 0
}

// keptAliveListener asks for keep-alive on connections of a socket that was not
// opened here.
type keptAliveListener struct{ *net.TCPListener }

func (l *keptAliveListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c.SetKeepAliveConfig(keepAlive) // without it the session ends by its timers alone
	return c, nil
}
