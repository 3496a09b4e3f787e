package gateway

import (
	"encoding/base64"
	"strings"
	"testing"
)

// A token of 12 KB, which is 16 KB in base64, is read; a longer one is refused.
func TestLongTokens(t *testing.T) {
	for _, exchange := range []struct {
		name, before, behind string
		read                 func(func(string) ([]byte, error)) (Credentials, error)
	}{
		{"OAUTHBEARER", "n,a=alice@example.org,\x01auth=Bearer ", "\x01\x01", oauthBearer},
		{"XOAUTH2", "user=alice@example.org\x01auth=Bearer ", "\x01\x01", xoauth2},
	} {
		for _, length := range []int{1, maxToken, maxToken + 1} {
			token := strings.Repeat("t", length)
			response := exchange.before + token + exchange.behind
			c, err := exchange.read(func(string) ([]byte, error) { return []byte(response), nil })
			if ok := length <= maxToken; (err == nil) != ok || ok && (c.Token != token || c.User != "alice@example.org") {
				t.Errorf("%s, %d octets: user %q, %d octets of token, %v", exchange.name, length, c.User, len(c.Token), err)
			}
			line := "AUTH " + exchange.name + " " + base64.StdEncoding.EncodeToString([]byte(response)) + "\r\n"
			if length <= maxToken && len(line) > maxSecretLine {
				t.Errorf("%s: a token of %d octets makes a line of %d, at most %d are read", exchange.name, length, len(line), maxSecretLine)
			}
		}
	}
}

func FuzzBearer(f *testing.F) {
	f.Add([]byte("n,a=alice=2C=3D,\x01host=x\x01auth=Bearer t\x01\x01"))
	f.Add([]byte("user=alice\x01auth=Bearer t\x01\x01"))
	f.Add([]byte("\x01"))
	f.Fuzz(func(t *testing.T, response []byte) {
		for _, read := range []func(func(string) ([]byte, error)) (Credentials, error){oauthBearer, xoauth2} {
			c, err := read(func(string) ([]byte, error) { return response, nil })
			if err != nil {
				continue
			}
			if len(c.Token) > maxToken || strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Fatalf("token %q", c.Token)
			}
			if c.Password != "" || c.Digest != "" || c.Identity != "" || len(c.User) > len(response) {
				t.Fatalf("%q gives more than a name and a token", response)
			}
		}
	})
}
