package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Values of tls_profile.
const (
	modernTLS = "modern" // TLS 1.2 and newer, with Go's choice of ciphers
	legacyTLS = "legacy" // for devices of old
)

// listenerTLS is the TLS of one listener. Its settings may be replaced while
// sessions go on, and clients can resume their TLS sessions all the same.
type listenerTLS struct {
	settings atomic.Pointer[tls.Config]
	config   *tls.Config // for the server; it lasts
}

func newListenerTLS(settings *tls.Config) *listenerTLS {
	l := &listenerTLS{}
	l.settings.Store(settings)
	l.config = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.settings.Load(), nil }}
	return l
}

// tlsSettings are those of listener i, which reads client_ca_file.
func (c *config) tlsSettings(i int, certs *certificates) (*tls.Config, error) {
	l := c.Listeners[i]
	settings := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certs.forClient,
		// Small records let a browser show the beginning of a page; here they are 80
		// more for each session.
		DynamicRecordSizingDisabled: true,
	}
	if l.TLSProfile == legacyTLS {
		settings.MinVersion = tls.VersionTLS10
		settings.CipherSuites = legacySuites()
	}
	if l.ClientCAFile == "" {
		return settings, nil
	}
	key := fmt.Sprintf("listeners[%d].client_ca_file", i)
	text, err := c.readPEM(key, c.path(l.ClientCAFile))
	if err != nil {
		return nil, err
	}
	settings.ClientCAs = x509.NewCertPool()
	if !settings.ClientCAs.AppendCertsFromPEM(text) {
		return nil, c.source.errorf(key, "found no certificate in %s; wanted is a PEM file with those of the authorities that clients' certificates come from", c.path(l.ClientCAFile))
	}
	settings.ClientAuth = tls.VerifyClientCertIfGiven
	return settings, nil
}

// legacySuites are Go's secure suites and those of TLS 1.0: RSA key exchange,
// CBC, 3DES. RC4 is broken outright, and left out.
func legacySuites() []uint16 {
	var ids []uint16
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if !strings.Contains(suite.Name, "_RC4_") {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// isLegacy reports whether a listener is for old devices.
func (c *config) isLegacy() bool {
	return slices.ContainsFunc(c.Listeners, func(l listenerConfig) bool { return l.TLSProfile == legacyTLS })
}

// checkLegacy wants an RSA key for listeners with the profile "legacy".
func (c *config) checkLegacy(pairs []*certificate) error {
	var errs []error
	for i, l := range c.Listeners {
		if l.TLS != "none" && l.TLSProfile == legacyTLS && !hasRSA(pairs) {
			errs = append(errs, c.source.errorf(fmt.Sprintf("listeners[%d].tls_profile", i),
				`found "legacy", whose devices need a certificate with an RSA key, and there is none: add one as [[tls.certificates]] (certbot: --key-type rsa), or choose "modern"`))
		}
	}
	return errors.Join(errs...)
}
