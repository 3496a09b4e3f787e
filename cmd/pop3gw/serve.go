package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"pop3gw/gateway"
)

// shutdownGrace is how long running commands may take after SIGTERM.
const shutdownGrace = 30 * time.Second

func newServeCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Run the gateway in the foreground, with its log on standard error.

SIGTERM or SIGINT ends it: no more clients are accepted, running commands finish,
nothing is removed unless its QUIT came. A second signal ends it at once.

SIGHUP reads the configuration again, and sessions go on with what they had. Adapters,
users, routes, passwd-files, certificates, limits, what listeners offer and the level
of the log are replaced; the log names what has changed and needs a restart. A
configuration that cannot be used is reported, and leaves the one before in force.
Certificates are also read again when their files change.`,
		Example: "  pop3gw serve --config /etc/pop3gw/config.toml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			abortOnCrash()
			// Before anything is open, so that a signal never leaves it half started.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			c, err := loadConfig(configPath(path))
			if err != nil {
				return usageError{err}
			}
			level := new(slog.LevelVar)
			level.Set(c.Log.level())
			log := newLeveledLogger(cmd.ErrOrStderr(), c.Log, level)
			limitMemory(log)
			kept, err := c.openStores(log)
			if err != nil {
				return usageError{err}
			}
			if err := c.makeSaltKey(); err != nil {
				return usageError{err}
			}
			s, err := c.build(kept, log)
			if err != nil {
				return usageError{err}
			}
			s.level = level
			if _, err := c.checkPasswdFiles(s.accounts.current.directory); err != nil {
				return usageError{err}
			}
			open, err := c.listenAll(s)
			if err != nil {
				return err
			}
			if s.operator, err = c.operator(s); err != nil {
				closeAll(open)
				return err
			}
			if s.enrol, err = c.enrolServer(s); err != nil {
				closeAll(open)
				return err
			}
			for _, w := range append(c.warnings(), c.mechanismWarnings(s.accounts.current.directory)...) {
				log.Warn("the configuration is risky", "reason", w)
			}
			if w := c.fileWarning(); w != nil {
				log.Warn("connections may be refused", "reason", w)
			}
			return s.serve(ctx, open, hangup)
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

// limitMemory makes the garbage collector mind the memory limit of the container
// (cgroup) that the gateway runs in, up to nine tenths of it: the rest is for what
// it does not manage. GOMEMLIMIT in the environment wins.
func limitMemory(log *slog.Logger) {
	limit, err := memlimit.Set()
	switch {
	case err != nil:
		log.Debug("no memory limit could be found", "error", err)
	case limit == math.MaxInt64:
		log.Debug("memory is not limited")
	default:
		log.Debug("memory limit", "octets", limit)
	}
}

func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "", "configuration `file` (default $POP3GW_CONFIG, else "+defaultConfigFile+")")
	cmd.MarkFlagFilename("config", "toml")
}

// serve serves on the listeners of s, which are open, until ctx ends. At each
// hangup the configuration is read again.
func (s *service) serve(ctx context.Context, open []net.Listener, hangup <-chan os.Signal) (err error) {
	log := s.log
	for _, pair := range s.certificates.pairs {
		pair.warn(log)
	}
	s.operator.serve(s)
	s.enrol.serve(s)
	if told, err := s.tellWhereabouts(open[0]); err == nil {
		defer told.Close()
	} else if !errors.Is(err, errors.ErrUnsupported) {
		log.Warn("pop3gw health goes by the configuration file alone", "error", err)
	}
	failed := make(chan error, len(open))
	for i, l := range s.listeners {
		log.Info("listening", "address", open[i].Addr().String(), "tls", l.tls)
		go func() { failed <- s.server.Serve(open[i], l.options) }()
	}
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var tasks sync.WaitGroup
		tasks.Go(func() { s.certificates.watch(watching, hangup, s.reload, log) })
		tasks.Go(func() { s.keepGrants(watching) })
		tasks.Wait()
	}()
	log.Info("ready", "version", version(), "pid", os.Getpid())
	s.notifyReady()
	go s.feedWatchdog(ctx)
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop()
	s.operator.draining()
	log.Info("shutting down", "grace", shutdownGrace)
	s.notify(notifyStopping)
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	second, stopSignals := signal.NotifyContext(grace, os.Interrupt, syscall.SIGTERM)
	defer stopSignals()
	if s.server.Shutdown(second) != nil {
		log.Warn("connections were cut, since they did not end in time")
	}
	s.enrol.end()
	s.operator.end()
	select {
	case <-watched: // nothing is replaced any more
	case <-second.Done():
	}
	if err := s.close(); err != nil {
		log.Warn("something did not end as it should", "error", err)
	}
	log.Info("stopped")
	if errors.Is(err, gateway.ErrServerClosed) {
		return nil
	}
	return err
}
