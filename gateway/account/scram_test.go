package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"pop3gw/gateway"
)

// talk runs a client's side of SCRAM-SHA-256 against d. edit, if it is not nil,
// changes the client's n-th message, counted from 0. It returns the challenges.
func talk(t *testing.T, d *Directory, name, password, identity string, edit func(n int, message string) string) (challenges []string, account gateway.Account, err error) {
	t.Helper()
	client, err := scram.SHA256.NewClient(name, password, identity)
	if err != nil {
		t.Fatal(err)
	}
	c := client.WithMinIterations(1).NewConversation()
	n := 0
	got, account, err := d.Prove(t.Context(), func(challenge string) ([]byte, error) {
		if n > 0 {
			challenges = append(challenges, challenge)
		}
		message, err := c.Step(challenge)
		if err != nil {
			return nil, err
		}
		if edit != nil {
			message = edit(n, message)
		}
		n++
		return []byte(message), nil
	})
	if err == nil && (!c.Valid() || got != name) {
		t.Errorf("%s: the client does not find the server valid, or its name is %q", name, got)
	}
	return challenges, account, err
}

func scramOf(t *testing.T, password string) string {
	t.Helper()
	v, err := HashSCRAM([]byte(password))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The example of RFC 7677 §3.
func TestVerifierOfRFC(t *testing.T) {
	decode := func(text string) []byte {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v, err := newVerifierSCRAM("pencil", decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
	if err != nil {
		t.Fatal(err)
	}
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	message := "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" + nonce
	sign := func(key []byte) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(message))
		return mac.Sum(nil)
	}
	key := decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	for i, b := range sign(v.StoredKey) {
		key[i] ^= b
	}
	if stored := sha256.Sum256(key); !slices.Equal(stored[:], v.StoredKey) {
		t.Error("the client's proof does not fit")
	}
	if !slices.Equal(sign(v.ServerKey), decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")) {
		t.Error("the server's signature differs")
	}
}

func TestProve(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	content := "ann@files.example.org:" + scramOf(t, "pass of ann") + "\nold@files.example.org:!\nodd@files.example.org:{ROT13}x\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	folders := Target{Adapter: noAdapter{"folders"}, Folders: true}
	d, err := New(Config{
		LowerCase: true,
		Users: []User{
			{Name: "verifier", Password: scramOf(t, "s3cret pass"), Target: imap, UpstreamUser: "up", UpstreamPassword: "upstream"},
			{Name: "plain", Password: "{PLAIN}tanstaaf", Target: folders},
			{Name: "comma,equals=", Password: "{PLAIN}x", Target: maildir},
			{Name: "unicode", Password: scramOf(t, "Gru\u0308\u00a0\u2168"), Target: maildir},
			{Name: "hash", Password: sshaHash, Target: maildir},
			{Name: "forward", Target: imap},
		},
		Routes: []Route{
			{Pattern: "*@files.example.org", Target: maildir, PasswdFile: file},
			{Pattern: "*@both.example.org", Target: imap, PasswdFile: file},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		about, name, password, identity string
		code                            gateway.Code
		account                         gateway.Account
	}{
		{"a stored verifier", "verifier", "s3cret pass", "", "", gateway.Account{Name: "verifier", Adapter: imap.Adapter, Upstream: gateway.Credentials{User: "up", Password: "upstream"}}},
		{"a wrong password", "verifier", "s3cret pas", "", gateway.CodeAuth, gateway.Account{}},
		{"the name to act as is one's own", "verifier", "s3cret pass", "verifier", "", gateway.Account{Name: "verifier", Adapter: imap.Adapter, Upstream: gateway.Credentials{User: "up", Password: "upstream"}}},
		{"another name to act as", "verifier", "s3cret pass", "plain", gateway.CodeAuth, gateway.Account{}},
		{"a plain secret", "plain", "tanstaaf", "", "", gateway.Account{Name: "plain", Adapter: folders.Adapter}},
		{"a wrong plain secret", "plain", "tanstaa", "", gateway.CodeAuth, gateway.Account{}},
		{"the form of the name", "PLAIN", "tanstaaf", "", "", gateway.Account{Name: "plain", Adapter: folders.Adapter}},
		{"a folder", "plain+Sent", "tanstaaf", "", "", gateway.Account{Name: "plain", Adapter: folders.Adapter, Folder: "Sent"}},
		{"a name with comma and equals", "comma,equals=", "x", "", "", gateway.Account{Name: "comma,equals=", Adapter: maildir.Adapter}},
		{"a password that SASLprep changes", "unicode", "Grü IX", "", "", gateway.Account{Name: "unicode", Adapter: maildir.Adapter}},
		{"a passwd-file", "ann@files.example.org", "pass of ann", "", "", gateway.Account{Name: "ann@files.example.org", Adapter: maildir.Adapter}},
		{"a locked user", "old@files.example.org", "x", "", gateway.CodeAuth, gateway.Account{}},
		{"a damaged line", "odd@files.example.org", "x", "", gateway.CodeSysPerm, gateway.Account{}},
		{"the store wants the password", "ann@both.example.org", "pass of ann", "", gateway.CodeAuth, gateway.Account{}},
		{"another hash", "hash", "s3cret pass", "", gateway.CodeAuth, gateway.Account{}},
		{"the store checks", "forward", "x", "", gateway.CodeAuth, gateway.Account{}},
		{"nobody", "nobody", "x", "", gateway.CodeAuth, gateway.Account{}},
		{"nobody at a passwd-file", "nobody@files.example.org", "x", "", gateway.CodeAuth, gateway.Account{}},
	} {
		challenges, account, err := talk(t, d, tt.name, tt.password, tt.identity, nil)
		if gateway.CodeOf(err) != tt.code || (err == nil) != (tt.code == "") || account != tt.account {
			t.Errorf("%s: %+v, %v; want [%s] %+v", tt.about, account.Name, err, tt.code, tt.account.Name)
		}
		if tt.code == gateway.CodeAuth && len(challenges) != 1 {
			t.Errorf("%s: %d challenges, want the first alone", tt.about, len(challenges))
		}
	}

	// All ways to log in work with a verifier.
	for _, password := range []string{"s3cret pass", "s3cret"} {
		_, err := d.Login(t.Context(), gateway.Credentials{User: "verifier", Password: password})
		if right := password == "s3cret pass"; (err == nil) != right {
			t.Errorf("PASS %s: %v", password, err)
		}
	}
	for _, password := range []string{"Grü IX", "Gru\u0308\u00a0\u2168"} {
		if _, err := d.Login(t.Context(), gateway.Credentials{User: "unicode", Password: password}); err != nil {
			t.Errorf("PASS %q: %v", password, err)
		}
	}
}

// A stranger must not learn which names exist: the salt of one that does not is
// the same each time, in every process with the key, and of the usual form.
func TestMadeUpChallenge(t *testing.T) {
	directory := func(key string, users ...User) *Directory {
		d, err := New(Config{SaltKey: []byte(key), Users: users})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	challenge := func(d *Directory, name string) (salt, rounds string) {
		challenges, _, err := talk(t, d, name, "guess", "", nil)
		if len(challenges) != 1 || gateway.CodeOf(err) != gateway.CodeAuth {
			t.Fatalf("%s: challenges %q, %v", name, challenges, err)
		}
		_, rest, _ := strings.Cut(challenges[0], ",s=")
		salt, rounds, _ = strings.Cut(rest, ",i=")
		return salt, rounds
	}
	known := User{Name: "known", Password: scramOf(t, "x"), Target: maildir}
	plain := User{Name: "plain", Password: "{PLAIN}x", Target: maildir}
	hash := User{Name: "hash", Password: sshaHash, Target: maildir}
	d := directory("key", known, hash)
	knownSalt, knownRounds := challenge(d, "known")
	salts := map[string]bool{knownSalt: true}
	for _, name := range []string{"nobody", "nobody@example.org", "hash", "known+Folder"} {
		salt, rounds := challenge(d, name)
		if len(salt) != len(knownSalt) || rounds != knownRounds {
			t.Errorf("%s: s=%s i=%s, but of a user s=%s i=%s", name, salt, rounds, knownSalt, knownRounds)
		}
		if salts[salt] {
			t.Errorf("%s: has the salt of another name", name)
		}
		salts[salt] = true
		for _, again := range []*Directory{d, directory("key", known, hash)} {
			if s, r := challenge(again, name); s != salt || r != rounds {
				t.Errorf("%s: s=%s i=%s, and then s=%s i=%s", name, salt, rounds, s, r)
			}
		}
		if s, _ := challenge(directory("other", known, hash), name); s == salt {
			t.Errorf("%s: the salt does not depend on the key", name)
		}
	}
	d = directory("key", plain)
	plainSalt, plainRounds := challenge(d, "plain")
	salt, rounds := challenge(d, "nobody")
	if again, _ := challenge(d, "plain"); again != plainSalt || len(salt) != len(plainSalt) || rounds != plainRounds {
		t.Errorf("of {PLAIN} s=%s i=%s, then s=%s; of nobody s=%s i=%s", plainSalt, plainRounds, again, salt, rounds)
	}
}

// What a client sends that is not of the form is no refused login; what does not
// fit what was said before is.
func TestProveMessages(t *testing.T) {
	d, err := New(Config{Users: []User{{Name: "bob", Password: "{PLAIN}x", Target: maildir}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		about    string
		n        int
		old, new string
		want     string // "" for logged in
	}{
		{"as it should be", 0, "", "", ""},
		{"a flag that changes on the way", 0, "n,,", "y,,", "[AUTH] wrong name or password"},
		{"channel binding", 0, "n,,", "p=tls-exporter,,", "channel binding is not offered here: use SCRAM-SHA-256 without it"},
		{"unknown flag", 0, "n,,", "q,,", "that is not a first message of SCRAM-SHA-256"},
		{"an extension that must be understood", 0, "n,,", "n,,m=x,", "that is not a first message of SCRAM-SHA-256"},
		{"no name", 0, "n=bob", "", "that is not a first message of SCRAM-SHA-256"},
		{"a name that is badly quoted", 0, "n=bob", "n=b=ob", "that is not a first message of SCRAM-SHA-256"},
		{"the header is not that of the first message", 1, "c=biws", "c=eSws", "[AUTH] wrong name or password"},
		{"another nonce", 1, ",r=", ",r=x", "[AUTH] wrong name or password"},
		{"no proof", 1, ",p=", ",q=", "that is not a final message of SCRAM-SHA-256"},
		{"a proof of other length", 1, ",p=", ",p=AAAA", "[AUTH] wrong name or password"},
		{"more to say", 2, "", "x", "nothing was left to say in SCRAM-SHA-256"},
	} {
		_, _, err := talk(t, d, "bob", "x", "", func(n int, message string) string {
			if n != tt.n || tt.old != "" && !strings.Contains(message, tt.old) {
				return message
			}
			return strings.Replace(message, tt.old, tt.new, 1)
		})
		got := ""
		if e, ok := errors.AsType[*gateway.Error](err); ok {
			got = "[" + string(e.Code) + "] " + e.Text
		} else if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.about, got, tt.want)
		}
	}
	stop := errors.New("stop")
	for _, stopAt := range []int{0, 1, 2} {
		n := 0
		client, _ := scram.SHA256.NewClient("bob", "x", "")
		c := client.NewConversation()
		_, _, err := d.Prove(t.Context(), func(challenge string) ([]byte, error) {
			if n == stopAt {
				return nil, stop
			}
			n++
			m, err := c.Step(challenge)
			return []byte(m), err
		})
		if err != stop {
			t.Errorf("an error at message %d becomes %v", stopAt, err)
		}
	}
}

// A client that supports channel binding and was not offered it says so (RFC 5802
// §6), and is welcome.
func TestProveWithFlagY(t *testing.T) {
	d, err := New(Config{Users: []User{{Name: "bob", Password: "{PLAIN}x", Target: maildir}}})
	if err != nil {
		t.Fatal(err)
	}
	client, _ := scram.SHA256.NewClient("bob", "x", "")
	c := client.NewConversationAdvertisingChannelBinding()
	flag := ""
	_, account, err := d.Prove(t.Context(), func(challenge string) ([]byte, error) {
		message, err := c.Step(challenge)
		if challenge == "" {
			flag, _, _ = strings.Cut(message, ",")
		}
		return []byte(message), err
	})
	if err != nil || flag != "y" || account.Name != "bob" {
		t.Errorf("flag %q: %q, %v", flag, account.Name, err)
	}
}

// Nobody is let in by any message but the right ones, and nothing panics.
func FuzzProve(f *testing.F) {
	f.Add("n,,n=bob,r=abc", "c=biws,r=abc,p=AAAA", "")
	f.Add("y,a=bob,n=bo=2Cb,r=abc,x=y", "c=biws,r=abc,e=f,p=", "x")
	f.Add("p=tls-unique,,n=bob,r=", ",,,", "\x00")
	f.Add("n,,m=1,n=,r=", "c=,r=,p=", "")
	d, err := New(Config{Users: []User{{Name: "bob", Password: "{SCRAM-SHA-256}4096,c2FsdA==," +
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", Target: maildir}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, final, last string) {
		n := 0
		_, account, err := d.Prove(t.Context(), func(challenge string) ([]byte, error) {
			n++
			switch n {
			case 1:
				return []byte(first), nil
			case 2:
				if len(challenge) > 512+len(first) || strings.ContainsAny(challenge, "\r\n\x00") && !strings.ContainsAny(first, "\r\n\x00") {
					t.Fatalf("challenge %q", challenge)
				}
				nonce, _, _ := strings.Cut(strings.TrimPrefix(challenge, "r="), ",")
				return []byte(strings.Replace(final, "r=abc", "r="+nonce, 1)), nil
			}
			return []byte(last), nil
		})
		if err == nil || account != (gateway.Account{}) {
			t.Fatalf("%q, %q and %q let %q in", first, final, last, account.Name)
		}
		if n > 2 {
			t.Fatal("a proof was believed")
		}
		if e, ok := errors.AsType[*gateway.Error](err); ok && e.Code != gateway.CodeAuth {
			t.Fatal(err)
		}
	})
}
