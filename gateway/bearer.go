package gateway

import (
	"bytes"
	"strings"
)

// Bearer tokens (RFC 6750) log a client in where the store itself checks who may:
// by OAUTHBEARER (RFC 7628), and by XOAUTH2, its forerunner of Google's.

// tokenMechanism reports whether a mechanism carries a token.
func tokenMechanism(name string) bool { return name == "OAUTHBEARER" || name == "XOAUTH2" }

// maxToken bounds a token, in octets: it must fit, in base64 and with the name,
// into a line of 16 KB.
const maxToken = 12 << 10

// oauthBearer is RFC 7628 §3.1. The name is the authorization identity: a token
// has none that the gateway could read.
func oauthBearer(respond func(string) ([]byte, error)) (Credentials, error) {
	response, err := respond("")
	if err != nil {
		return Credentials{}, err
	}
	header, pairs, ok := bytes.Cut(response, []byte("\x01"))
	if !ok || !bytes.HasSuffix(pairs, []byte("\x01")) && len(pairs) > 0 {
		return Credentials{}, badCommand("OAUTHBEARER takes a GS2 header and key=value pairs, each ended by ^A")
	}
	name, err := gs2Name(string(header))
	if err != nil {
		return Credentials{}, err
	}
	token, err := bearerToken(pairs)
	return Credentials{User: name, Token: token}, err
}

// gs2Name returns the authorization identity of "n,a=name," (RFC 5801 §4).
func gs2Name(header string) (string, error) {
	flag, rest, _ := strings.Cut(header, ",")
	identity, ok := strings.CutSuffix(rest, ",")
	switch {
	case strings.HasPrefix(flag, "p="):
		return "", badCommand("channel binding is not offered here")
	case !ok || flag != "n" && flag != "y" || strings.Contains(identity, ","):
		return "", badCommand("OAUTHBEARER begins with n,a=NAME,")
	}
	name, ok := strings.CutPrefix(identity, "a=")
	if !ok || name == "" {
		return "", badCommand("OAUTHBEARER needs a name here: n,a=NAME,")
	}
	// What is left of "=" after these two is no saslname.
	if strings.Count(name, "=") != strings.Count(name, "=2C")+strings.Count(name, "=3D") {
		return "", badCommand("in a name \"=\" is written =3D, and \",\" is =2C")
	}
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name), nil
}

// xoauth2 is what Google and Microsoft document: "user=" name ^A "auth=Bearer "
// token ^A ^A.
func xoauth2(respond func(string) ([]byte, error)) (Credentials, error) {
	response, err := respond("")
	if err != nil {
		return Credentials{}, err
	}
	user, pairs, ok := bytes.Cut(response, []byte("\x01"))
	name, isUser := bytes.CutPrefix(user, []byte("user="))
	if !ok || !isUser || !bytes.HasSuffix(pairs, []byte("\x01")) {
		return Credentials{}, badCommand("XOAUTH2 takes user=NAME and auth=Bearer TOKEN, each ended by ^A, and one more ^A")
	}
	token, err := bearerToken(pairs)
	return Credentials{User: string(name), Token: token}, err
}

// bearerToken returns the token of pairs "key=value", each ended by ^A; an empty
// pair ends them. Other keys, such as host and port, do not matter (RFC 7628 §3.1).
// A client may send no token, to be told where to get one (§4.3): it is refused
// like a wrong one.
func bearerToken(pairs []byte) (string, error) {
	for pair := range bytes.SplitSeq(pairs, []byte("\x01")) {
		key, value, ok := strings.Cut(string(pair), "=")
		switch {
		case len(pair) == 0:
			return "", badCommand("auth=Bearer TOKEN is missing")
		case !ok:
			return "", badCommand("a key without a value")
		case !strings.EqualFold(key, "auth"):
			continue
		case value == "":
			return "", nil
		}
		scheme, token, _ := strings.Cut(value, " ")
		token = strings.Trim(token, " ")
		switch {
		case !strings.EqualFold(scheme, "Bearer"):
			return "", badCommand("of the ways to send a token Bearer is offered here")
		case len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return "", badCommand("the token is too long, or has other characters than RFC 6750 allows")
		}
		return token, nil
	}
	return "", badCommand("auth=Bearer TOKEN is missing")
}

// tokenErrors are the last challenges to a client whose token was refused
// (RFC 7628 §3.2.2 and what Google documents of XOAUTH2). It answers with
// anything (§3.2.3), and then comes the -ERR.
var tokenErrors = map[string]string{
	"OAUTHBEARER": `{"status":"invalid_token","schemes":"bearer"}`,
	"XOAUTH2":     `{"status":"401","schemes":"bearer"}`,
}

// tokenRefused ends the exchange of a token that was refused with err.
func (s *session) tokenRefused(mechanism string, respond func(string) ([]byte, error), err error) error {
	if _, e := respond(tokenErrors[mechanism]); e == errEnded {
		return e
	}
	return err
}
