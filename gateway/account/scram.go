package account

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"pop3gw/gateway"
)

// What a new verifier has. The rounds are the client's work as well, which may be
// a small device: RFC 7677 §4 finds 15,000 right.
const (
	scramRounds   = 15_000
	scramSaltSize = 16 // octets
)

// plainRounds are for passwords that are stored as they are: their verifier is
// made at each login, and is never stored. RFC 7677 §4 has 4096 at least.
const plainRounds = 4096

var _ gateway.Prover = (*Directory)(nil)

// Prove implements gateway.Prover. A name that cannot log in so is challenged with
// a salt made of the name and Config.SaltKey, and with the rounds of a user's
// verifier, so that it looks like one that can.
func (d *Directory) Prove(ctx context.Context, respond func(challenge string) ([]byte, error)) (string, gateway.Account, error) {
	var (
		e       *entry
		refusal error // why the name cannot log in so
		wrong   error // why it cannot be looked up
		talk    *scram.ServerConversation
	)
	server, err := scram.SHA256.NewServer(func(name string) (stored scram.StoredCredentials, err error) {
		e, stored, refusal, wrong = d.verifierOf(ctx, name, talk.AuthzID())
		return stored, wrong
	})
	if err != nil {
		return "", gateway.Account{}, err
	}
	talk = server.NewConversation()

	first, err := respond("")
	if err != nil {
		return "", gateway.Account{}, err
	}
	challenge, err := talk.Step(string(first))
	name := talk.Username()
	switch {
	case wrong != nil:
		return name, gateway.Account{}, wrong
	case err != nil && challenge == scram.ErrChannelBindingNotSupported:
		return name, gateway.Account{}, gateway.BadResponse("channel binding is not offered here: use SCRAM-SHA-256 without it")
	case err != nil: // it may quote the client, and is of no use to anybody else
		return name, gateway.Account{}, gateway.BadResponse("that is not a first message of SCRAM-SHA-256")
	}
	final, err := respond(challenge)
	if err != nil {
		return name, gateway.Account{}, err
	}
	proof, err := talk.Step(string(final))
	switch {
	case err != nil && proof == "":
		return name, gateway.Account{}, gateway.BadResponse("that is not a final message of SCRAM-SHA-256")
	case refusal != nil:
		return name, gateway.Account{}, gateway.Refused(refusal)
	case err != nil || !talk.Valid():
		return name, gateway.Account{}, gateway.Refused(fmt.Errorf("wrong proof of the password of %q", e.name))
	}
	// POP3 has no data with success: they are a challenge, and the answer to it is
	// empty (RFC 5034 §4).
	if rest, err := respond(proof); err != nil || len(rest) > 0 {
		if err == nil {
			err = gateway.BadResponse("nothing was left to say in SCRAM-SHA-256")
		}
		return name, gateway.Account{}, err
	}
	return name, e.account(), nil
}

// verifierOf returns what to check a client's proof against. It is made up, and
// refusal says why, for a name that cannot log in so.
func (d *Directory) verifierOf(ctx context.Context, typed, identity string) (e *entry, stored scram.StoredCredentials, refusal, wrong error) {
	e, err := d.find(typed, identity)
	u, isUnknown := errors.AsType[*unknown](err)
	switch {
	case isUnknown:
		stored, wrong = d.madeUp(ctx, u.name, u.kinds)
		return nil, stored, err, wrong
	case err != nil:
		return nil, scram.StoredCredentials{}, nil, err
	case !fitsSCRAM(e.secret, e.forward):
		stored, wrong = d.madeUp(ctx, e.name, d.allKinds())
		return nil, stored, fmt.Errorf("%q cannot use SCRAM-SHA-256, which needs a password stored as {SCRAM-SHA-256} or {PLAIN}", e.name), wrong
	case e.secret.scram != nil:
		return e, *e.secret.scram, nil, nil
	}
	stored, wrong = d.ofPlain(ctx, e.name, e.secret.plain)
	return e, stored, nil, wrong
}

func fitsSCRAM(s *secret, forward bool) bool {
	return s != nil && !forward && (s.scram != nil || s.plain != nil)
}

// ofPlain makes the verifier of a password that is stored as it is. Its salt is
// the same each time.
func (d *Directory) ofPlain(ctx context.Context, name string, password []byte) (scram.StoredCredentials, error) {
	release, err := d.verifier.slot(ctx, name)
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	defer release()
	return newVerifierSCRAM(prepared(password), d.salt(name, scramSaltSize), plainRounds)
}

// madeUp returns a verifier that no proof fits. It is like that of a user with one
// of the kinds, always the same for a name, and takes as long.
func (d *Directory) madeUp(ctx context.Context, name string, kinds []*secret) (scram.StoredCredentials, error) {
	var able []*secret
	for _, s := range kinds {
		if fitsSCRAM(s, false) {
			able = append(able, s)
		}
	}
	salt, rounds := scramSaltSize, scramRounds
	if len(able) > 0 {
		choice := able[binary.BigEndian.Uint64(d.keyed("kind", name))%uint64(len(able))]
		if choice.scram == nil {
			stored, err := d.ofPlain(ctx, name, choice.plain)
			stored.StoredKey = randomKey()
			return stored, err
		}
		salt, rounds = len(choice.scram.Salt), choice.scram.Iters
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(d.salt(name, salt)), Iters: rounds},
		StoredKey:  randomKey(),
		ServerKey:  randomKey(),
	}, nil
}

// processKey stands in for Config.SaltKey.
var processKey = sync.OnceValue(randomKey)

func randomKey() []byte {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails
	return key
}

// salt is made of a name, and looks random to whoever has not Config.SaltKey.
func (d *Directory) salt(name string, size int) []byte {
	var salt []byte
	for i := 0; len(salt) < size; i++ {
		salt = append(salt, d.keyed("salt "+strconv.Itoa(i), name)...)
	}
	return salt[:size]
}

func (d *Directory) keyed(purpose, name string) []byte {
	mac := hmac.New(sha256.New, d.saltKey)
	mac.Write([]byte(purpose + "\x00" + name))
	return mac.Sum(nil)
}

// prepared is a password as RFC 5802 §5.1 wants it, or as it is where SASLprep
// (RFC 4013) forbids it.
func prepared(password []byte) string {
	p, err := stringprep.SASLprep.Prepare(string(password))
	if err != nil || p == "" {
		return string(password)
	}
	return p
}

func newVerifierSCRAM(password string, salt []byte, rounds int) (scram.StoredCredentials, error) {
	client, err := scram.SHA256.NewClientUnprepped("", password, "")
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	return client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: rounds})
}

// HashSCRAM returns the verifier of password in the form for User.Password and for
// a passwd-file, as Dovecot's {SCRAM-SHA-256}: rounds, salt, StoredKey and
// ServerKey (RFC 5802 §3).
func HashSCRAM(password []byte) (string, error) {
	if err := checkNewPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, scramSaltSize)
	rand.Read(salt) // never fails
	v, err := newVerifierSCRAM(prepared(password), salt, scramRounds)
	if err != nil {
		return "", fmt.Errorf("hashing the password: %w", err)
	}
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("{SCRAM-SHA-256}%d,%s,%s,%s", v.Iters, encode(salt), encode(v.StoredKey), encode(v.ServerKey)), nil
}

// scramScheme reads "rounds,salt,StoredKey,ServerKey", the last three in base64
// (RFC 5802 §3).
func scramScheme(kind string, newHash func() hash.Hash) func([]byte) (*secret, error) {
	return func(decoded []byte) (*secret, error) {
		f := strings.Split(string(decoded), ",")
		if len(f) != 4 {
			return nil, errors.New(`the hash is not of the form "rounds,salt,StoredKey,ServerKey"`)
		}
		rounds, err := boundedRounds(f[0], maxPBKDF2Rounds)
		if err != nil {
			return nil, err
		}
		size := newHash().Size()
		salt, err1 := base64.StdEncoding.DecodeString(f[1])
		storedKey, err2 := base64.StdEncoding.DecodeString(f[2])
		serverKey, err3 := base64.StdEncoding.DecodeString(f[3])
		if err1 != nil || err2 != nil || err3 != nil || len(salt) == 0 || len(storedKey) != size || len(serverKey) != size {
			return nil, errors.New("the salt, StoredKey or ServerKey is damaged")
		}
		s := &secret{kind: fmt.Sprintf("%s rounds=%d", kind, rounds), costly: true}
		fits := func(password string) bool {
			salted, err := pbkdf2.Key(newHash, password, salt, rounds, size)
			if err != nil {
				return false
			}
			mac := hmac.New(newHash, salted)
			mac.Write([]byte("Client Key"))
			h := newHash()
			h.Write(mac.Sum(nil))
			return subtle.ConstantTimeCompare(h.Sum(nil), storedKey) == 1
		}
		s.match = func(password []byte) bool {
			// Who made the verifier may have prepared the password, or not.
			p := prepared(password)
			return fits(p) || p != string(password) && fits(string(password))
		}
		if kind == "SCRAM-SHA-256" {
			s.scram = &scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: rounds}, StoredKey: storedKey, ServerKey: serverKey}
		}
		return s, nil
	}
}
