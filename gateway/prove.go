package gateway

import (
	"context"
	"strings"
)

// scramMechanism is the one in which a client proves that it knows its password
// without sending it. Its variant that binds to TLS, -PLUS, is not offered: few
// POP3 clients know it.
const scramMechanism = "SCRAM-SHA-256"

// Prover is Accounts that can check a client which does not send its password.
type Prover interface {
	// Prove runs SCRAM-SHA-256 (RFC 5802, RFC 7677) with a client and returns the
	// name that it gave, as far as it came to that, and the account it opens.
	//
	// respond sends the client a challenge, "" before its first message, and
	// returns what it answers; its errors are returned as they are. The last
	// challenge, which proves the server to the client, is sent before Prove
	// returns an account. Names that cannot log in so are challenged like others,
	// in the same way each time. Errors are those of Accounts.Login, and
	// BadResponse.
	Prove(ctx context.Context, respond func(challenge string) ([]byte, error)) (name string, account Account, err error)
}

// BadResponse says that what a client sent in an exchange is not of its
// mechanism's form; it is not a refused login. text is for the client.
func BadResponse(text string) error { return badCommand(text) }

// Offerer is Accounts that know for whom a way to log in works.
type Offerer interface {
	// Offers reports whether mechanism, one of Mechanisms, works for some of the
	// users, and whether it works for all.
	Offers(mechanism string) (some, all bool)
}

// offers reports whether this listener and these accounts have a way to log in.
// Without a choice of the operator's SCRAM is offered only where it works for
// everybody: clients that see it try nothing else.
func (s *session) offers(mechanism string) bool {
	if mechanism == externalMechanism && certifiedName(s.tls) == "" {
		return false
	}
	byItself := s.options.Mechanisms == nil && (mechanism == scramMechanism || mechanism == externalMechanism)
	if !byItself && !s.options.offers(mechanism) {
		return false
	}
	if _, ok := s.server.Accounts.(Prover); !ok && mechanism == scramMechanism {
		return false
	}
	some, all := true, false
	if o, ok := s.server.Accounts.(Offerer); ok {
		some, all = o.Offers(mechanism)
	}
	if byItself && mechanism == scramMechanism {
		return all
	}
	return some
}

// hidesPassword reports whether a way to log in is allowed on a connection where
// passwords are not. An operator who names SCRAM in Mechanisms allows it there;
// where it is offered by itself it follows CleartextLogin, since the mail that
// comes after it is not hidden.
func (s *session) hidesPassword(mechanism string) bool {
	return mechanism == "APOP" || mechanism == scramMechanism && s.options.Mechanisms != nil
}

// scram logs in by SCRAM-SHA-256. Whoever is throttled gets no challenge.
func (s *session) scram(respond func(string) ([]byte, error)) error {
	first, err := respond("")
	if err != nil {
		return err
	}
	name := scramName(string(first))
	s.called(name)
	said := false
	return s.enter(scramMechanism, Credentials{User: name}, func(ctx context.Context) (Account, error) {
		name, account, err := s.server.Accounts.(Prover).Prove(ctx, func(challenge string) ([]byte, error) {
			if !said {
				said = true
				return first, nil
			}
			return respond(challenge)
		})
		s.called(name)
		return account, err
	})
}

// scramName is the name in a client's first message (RFC 5802 §7), "" if there is none.
func scramName(first string) string {
	fields := strings.SplitN(first, ",", 4)
	if len(fields) < 4 {
		return ""
	}
	name, _ := strings.CutPrefix(fields[2], "n=")
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)
}
