package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout bounds the whole of 'pop3gw health'. A container's own limit for
// its health check should be longer, so that the reason is seen.
const healthTimeout = 3 * time.Second

func newHealthCommand() *cobra.Command {
	var path, address string
	var implicit bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask whether the local server answers",
		Long: `Connect to the first listener of the gateway that runs with the configuration, and
read its greeting. Exit status 0 says that pop3gw serves, 1 that it does not, and why.
It is for health checks, as of Docker: nobody logs in, no mail server is asked, and the
certificate is not verified, since it bears no local name. What was changed in the file
since the gateway read it does not matter, not even a mistake.

With --address no configuration is read.`,
		Example: "  pop3gw health --config /etc/pop3gw/config.toml\n  pop3gw health --address 127.0.0.1:995 --tls",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case address != "" && path != "":
				return usageError{errors.New("--address needs no configuration; leave --config out")}
			case address == "" && implicit:
				return usageError{errors.New("--tls goes with --address; without it the configuration says whether there is TLS")}
			case address != "":
				return health(cmd.Context(), address, implicit, nil)
			}
			w, err := askWhereabouts(cmd.Context(), configPath(path))
			if errors.Is(err, errNobody) {
				c, err := loadConfig(configPath(path))
				if err != nil {
					return usageError{err}
				}
				l := c.Listeners[0] // serve opens all listeners or ends
				w = whereabouts{l.Address, l.TLS == "implicit", l.proxyFrom()}
			} else if err != nil {
				return err
			}
			return health(cmd.Context(), w.Address, w.Implicit, w.ProxyFrom)
		},
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().StringVar(&address, "address", "", "`host:port` to connect to instead of a listener's")
	cmd.Flags().BoolVar(&implicit, "tls", false, "the --address has TLS from the first octet on")
	return cmd
}

// health reads the greeting of a POP3 server. An address such as 0.0.0.0, which
// stands for all of this machine's, leads to loopback. proxyFrom are those who
// must begin with a PROXY header.
func health(ctx context.Context, address string, implicitTLS bool, proxyFrom []netip.Prefix) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%w; is pop3gw running, and does it listen there?", err)
	}
	defer nc.Close()
	deadline, _ := ctx.Deadline()
	nc.SetDeadline(deadline)
	if self, err := netip.ParseAddrPort(nc.LocalAddr().String()); err == nil && contains(proxyFrom, self.Addr().Unmap()) {
		io.WriteString(nc, "PROXY UNKNOWN\r\n") // an error is seen when the greeting is read
	}
	if implicitTLS {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // nothing secret is sent
	}
	greeting, err := readGreeting(nc)
	switch {
	case err != nil && implicitTLS:
		return fmt.Errorf("%s does not greet: %w; is this a port with TLS from the first octet on?", address, err)
	case err != nil:
		return fmt.Errorf("%s does not greet: %w", address, err)
	case !strings.HasPrefix(greeting, "+OK"):
		return fmt.Errorf("%s answers %q; wanted is a greeting +OK", address, greeting)
	}
	return nil
}

// readGreeting reads a line of at most 512 octets (RFC 2449 §4).
func readGreeting(r io.Reader) (string, error) {
	line, err := bufio.NewReaderSize(r, 512).ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}
