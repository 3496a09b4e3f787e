package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// whereabouts are what 'pop3gw health' must know of a gateway that runs. It asks the
// gateway for them and not the configuration: an edit that SIGHUP has refused, or that
// waits for a restart, must not make it look ill, and be restarted into that edit.
//
// They are told by an abstract Unix socket (unix(7)), which is no file and ends with
// the process. Any local user may ask, and learns no more than from connecting.
type whereabouts struct {
	Address   string         // host:port of the first listener
	Implicit  bool           // TLS from the first octet on
	ProxyFrom []netip.Prefix // who begins with a PROXY header
}

// maxWhereabouts bounds what health reads of them, in octets.
const maxWhereabouts = 64 << 10

// whereaboutsName is the name of the socket for a configuration file. Containers that
// share a network share these names, and may have their file in the same place: the
// namespace of processes, which is a container's own, is part of it.
func whereaboutsName(path string) (string, error) {
	if runtime.GOOS != "linux" {
		return "", errors.ErrUnsupported
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	namespace, _ := os.Readlink("/proc/self/ns/pid")
	sum := sha256.Sum256([]byte(namespace + " " + absolute))
	return fmt.Sprintf("@pop3gw-%x", sum[:16]), nil
}

// tellWhereabouts tells whoever asks where s is, whose first listener is open, until
// the socket is closed.
func (s *service) tellWhereabouts(open net.Listener) (io.Closer, error) {
	name, err := whereaboutsName(s.started.source.path)
	if err != nil {
		return nil, err
	}
	socket, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(s.listeners[0].address)
	_, port, _ := net.SplitHostPort(open.Addr().String()) // the other may be 0
	go func() {
		for {
			nc, err := socket.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(time.Second)
				continue
			}
			now := s.listeners[0].live.Load().options
			nc.SetDeadline(time.Now().Add(time.Second))
			json.NewEncoder(nc).Encode(whereabouts{net.JoinHostPort(host, port), now.Implicit, now.ProxyFrom})
			nc.Close()
		}
	}()
	return socket, nil
}

// errNobody says that no gateway runs, or none that can be asked.
var errNobody = errors.New("no gateway can be asked where it listens")

// askWhereabouts asks the gateway that runs with a configuration file.
func askWhereabouts(ctx context.Context, path string) (w whereabouts, err error) {
	name, err := whereaboutsName(path)
	if err != nil {
		return w, fmt.Errorf("%w: %w", errNobody, err)
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "unix", name)
	if err != nil {
		return w, fmt.Errorf("%w: %w", errNobody, err)
	}
	defer nc.Close()
	deadline, _ := ctx.Deadline()
	nc.SetDeadline(deadline)
	if err := json.NewDecoder(io.LimitReader(nc, maxWhereabouts)).Decode(&w); err != nil {
		return w, fmt.Errorf("pop3gw runs, and does not say where it listens: %w", err)
	}
	return w, nil
}
