package main

import (
	"errors"
	"reflect"
	"slices"
	"strings"
)

// liveKeys are the tables of the configuration that SIGHUP puts in force as a
// whole. It takes all of [[listeners]] but the addresses, of [enrol] the domains and
// providers, and of [log] the level.
var liveKeys = []string{"adapters", "users", "routes", "login", "oauth", "tls", "lock"}

// reload reads the configuration again and puts in force what can be replaced
// without ending a session; the rest is named in the log. Of a configuration that
// cannot be used nothing is taken.
func (s *service) reload() {
	s.notifyReloading()
	defer s.notifyReady()
	err := s.tryReload()
	for _, err := range flatten(err) {
		s.log.Error("the configuration was not reloaded; the one before stays in force", "error", err)
	}
	if err == nil {
		s.log.Info("configuration reloaded", "file", s.config.source.path)
	}
	s.certificates.reload(s.log) // also what the configuration names no more, if it is wrong
}

func (s *service) tryReload() error {
	c, err := loadConfig(s.config.source.path)
	if err != nil {
		return err
	}
	next, err := c.prepare(s)
	if err != nil {
		return err
	}
	if _, err := c.checkPasswdFiles(next.generation.directory); err != nil {
		return errors.Join(err, s.accounts.discard(next.generation))
	}
	s.accounts.use(next.generation)
	s.locks.SetPolicy(c.Lock.policy())
	if len(next.pairs) > 0 { // else listeners would be without any, until the restart that closes them
		s.certificates.use(next.pairs, c.isLegacy())
	}
	listeners := c.listeners(next.tls)
	for i := range s.listeners {
		l := &s.listeners[i]
		if j := slices.IndexFunc(listeners, func(n listener) bool { return n.address == l.address }); j >= 0 {
			l.use(listeners[j], c.Limits)
			listeners = slices.Delete(listeners, j, j+1) // with port 0 there may be several
		} else { // its address waits for a restart
			l.live.Store(&liveOptions{l.live.Load().options, c.Limits})
		}
	}
	if s.level != nil {
		s.level.Set(c.Log.level())
	}
	for _, w := range append(c.warnings(), c.mechanismWarnings(next.generation.directory)...) {
		s.log.Warn("the configuration is risky", "reason", w)
	}
	if keys := restartKeys(s.started, c); len(keys) > 0 {
		s.log.Warn("some changes of the configuration need a restart", "keys", strings.Join(keys, ", "))
	}
	s.config = c
	return nil
}

// restartKeys are the tables and keys that differ in two configurations and are
// read at the start alone.
func restartKeys(a, b *config) (keys []string) {
	before, after := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range before.NumField() {
		key, ok := before.Type().Field(i).Tag.Lookup("toml")
		if !ok || slices.Contains(liveKeys, key) {
			continue
		}
		was, is := before.Field(i).Interface(), after.Field(i).Interface()
		switch key {
		case "listeners":
			key, was, is = "listeners.address", addresses(a), addresses(b)
		case "enrol": // its page looks the rest up
			key, was, is = "enrol.address, enrol.public_url", [2]string{a.Enrol.Address, a.Enrol.PublicURL}, [2]string{b.Enrol.Address, b.Enrol.PublicURL}
		case "limits": // failures are counted in one place, for all clients
			key, was, is = "limits.login_failure_delay", a.Limits.LoginFailureDelay, b.Limits.LoginFailureDelay
		case "log":
			key, was, is = "log.format", a.Log.Format, b.Log.Format
		}
		if !reflect.DeepEqual(was, is) {
			keys = append(keys, key)
		}
	}
	return keys
}

// addresses are those of listeners, in some order.
func addresses(c *config) (addresses []string) {
	for _, l := range c.Listeners {
		addresses = append(addresses, l.Address)
	}
	slices.Sort(addresses)
	return addresses
}
