package gateway

import "crypto/tls"

// externalMechanism logs a client in by the certificate that it showed in the TLS
// handshake (RFC 4422 appendix A).
const externalMechanism = "EXTERNAL"

// certifiedName is whom a client's certificate names: the first mail address in
// it, else the common name of its subject. It is "" without a certificate that a
// trusted authority has signed.
func certifiedName(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	leaf := state.PeerCertificates[0]
	if len(leaf.EmailAddresses) > 0 {
		return leaf.EmailAddresses[0]
	}
	return leaf.Subject.CommonName
}

func (s *session) external(respond func(string) ([]byte, error)) error {
	identity, err := respond("")
	if err != nil {
		return err
	}
	c := Credentials{Identity: string(identity), User: certifiedName(s.tls), Certified: true}
	if c.Identity == c.User {
		c.Identity = ""
	}
	return s.logIn(externalMechanism, c)
}
