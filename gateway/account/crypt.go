package account

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/md5crypt"
	"github.com/go-crypt/crypt/algorithm/pbkdf2"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/sha1crypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// The most one check may cost. A hash beyond is refused when it is read, since
// every guess of a stranger's would cost as much. Each limit is a second or two
// of one core, and memory counts once for each check at a time.
const (
	maxMemory       = 256 << 20 // octets at once, for argon2, scrypt and yescrypt
	maxMemoryPasses = 1 << 30   // octets over all passes
	maxLanes        = 16        // argon2's p and scrypt's p
	maxBcryptCost   = 14        // 2^14 rounds
	maxSHARounds    = 1_000_000 // sha-crypt
	maxPBKDF2Rounds = 2_000_000
)

// minKey is the shortest key a hash may end in, in octets: with fewer, wrong
// passwords would begin to fit.
const minKey = 16

// format is one kind of crypt-style hash.
type format struct {
	decode algorithm.DecodeFunc

	// check refuses what the library would compute but nobody should: other
	// lengths than the algorithm's and absurd costs. fields are the parts
	// between the "$" of the library's own notation, the identifier first, so
	// that they are the values it will really use. It returns how many of them
	// make up the kind.
	check func(fields []string) (kind int, err error)
}

// formats by identifier, the part between the first two "$". The identifier 2x,
// bcrypt as a buggy crypt_blowfish computed it, is left out: the library would
// take it for 2b and never find the password right.
var formats = map[string]format{
	"argon2id":      {argon2.DecodeVariant(argon2.VariantID), checkArgon2},
	"argon2i":       {argon2.DecodeVariant(argon2.VariantI), checkArgon2},
	"argon2d":       {argon2.DecodeVariant(argon2.VariantD), checkArgon2},
	"2a":            {bcrypt.DecodeVariant(bcrypt.VariantStandard), checkBcrypt},
	"2b":            {bcrypt.DecodeVariant(bcrypt.VariantStandard), checkBcrypt},
	"2y":            {bcrypt.DecodeVariant(bcrypt.VariantStandard), checkBcrypt},
	"5":             {shacrypt.DecodeVariant(shacrypt.VariantSHA256), checkSHACrypt(43)},
	"6":             {shacrypt.DecodeVariant(shacrypt.VariantSHA512), checkSHACrypt(86)},
	"1":             {md5crypt.DecodeVariant(md5crypt.VariantStandard), checkMD5Crypt},
	"sha1":          {sha1crypt.Decode, checkSHA1Crypt},
	"scrypt":        {scrypt.DecodeVariant(scrypt.VariantScrypt), checkScrypt},
	"y":             {scrypt.DecodeVariant(scrypt.VariantYescrypt), checkYescrypt},
	"pbkdf2":        {pbkdf2.DecodeVariant(pbkdf2.VariantSHA1), checkPBKDF2},
	"pbkdf2-sha1":   {pbkdf2.DecodeVariant(pbkdf2.VariantSHA1), checkPBKDF2},
	"pbkdf2-sha256": {pbkdf2.DecodeVariant(pbkdf2.VariantSHA256), checkPBKDF2},
	"pbkdf2-sha512": {pbkdf2.DecodeVariant(pbkdf2.VariantSHA512), checkPBKDF2},
}

var errDamaged = errors.New("the hash is damaged or cut short")

func tooCostly(found, limit string) error {
	return fmt.Errorf(`one check of this hash costs %s, at most %s is allowed: make a new one with "pop3gw passwd"`, found, limit)
}

// parseCrypt reads a hash in crypt style, "$identifier$...". The library's own
// errors quote what they read and are not passed on.
func parseCrypt(text string) (*secret, error) {
	f := strings.SplitN(text, "$", 3)
	if len(f) != 3 || f[0] != "" {
		return nil, errors.New(`the hash does not begin with "$identifier$"; traditional DES hashes are not supported: ` +
			`make a new one with "pop3gw passwd"`)
	}
	format, ok := formats[f[1]]
	if !ok {
		return nil, errors.New(`what follows the first "$" is not a hash that is supported: ` +
			`use argon2, bcrypt, sha-crypt, scrypt, yescrypt, PBKDF2 or md5-crypt, or make one with "pop3gw passwd"`)
	}
	digest, err := format.decode(text)
	if err != nil {
		return nil, errDamaged
	}
	fields := strings.Split(digest.Encode(), "$")[1:]
	n, err := format.check(fields)
	if err != nil {
		return nil, err
	}
	return &secret{
		kind:   strings.Join(fields[:n], "$"),
		costly: true,
		match:  digest.MatchBytes,
	}, nil
}

func checkArgon2(f []string) (int, error) { // argon2id$v=19$m=19456,t=2,p=1$salt$key
	var m, t, p uint64
	if len(f) != 5 {
		return 0, errDamaged
	}
	if _, err := fmt.Sscanf(f[2], "m=%d,t=%d,p=%d", &m, &t, &p); err != nil || len(f[3]) == 0 || base64Size(f[4]) < minKey {
		return 0, errDamaged
	}
	return 3, memoryHard(m<<10, t, p)
}

func checkScrypt(f []string) (int, error) { // scrypt$ln=15,r=8,p=1$salt$key
	var ln, r, p uint64
	if len(f) != 4 {
		return 0, errDamaged
	}
	if _, err := fmt.Sscanf(f[1], "ln=%d,r=%d,p=%d", &ln, &r, &p); err != nil || len(f[2]) == 0 || base64Size(f[3]) < minKey {
		return 0, errDamaged
	}
	if ln < 1 || ln > 30 || r < 1 || r > 1<<20 {
		return 0, errors.New("scrypt: ln must be 1 to 30 and r at least 1")
	}
	return 2, memoryHard(128*r<<ln, p, p)
}

func checkYescrypt(f []string) (int, error) { // y$j9T$salt$key, N and r in one digit each
	if len(f) != 4 || len(f[1]) != 3 || len(f[2]) == 0 || len(f[3]) != 43 {
		return 0, errDamaged
	}
	const digits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	ln, r := strings.IndexByte(digits, f[1][1])+1, strings.IndexByte(digits, f[1][2])+1
	if ln < 10 || ln > 30 || r < 1 {
		return 0, errDamaged
	}
	return 2, memoryHard(128*uint64(r)<<ln, 1, 1)
}

// memoryHard bounds an algorithm that goes through memory octets passes times.
func memoryHard(memory, passes, lanes uint64) error {
	switch {
	case passes < 1 || lanes < 1:
		return errDamaged
	case memory > maxMemory:
		return tooCostly(fmt.Sprintf("%d MiB", memory>>20), "256 MiB")
	case passes > maxMemoryPasses/max(memory, 1):
		return tooCostly(fmt.Sprintf("%d passes over %d MiB", passes, memory>>20), "1 GiB over all passes")
	case lanes > maxLanes:
		return tooCostly(fmt.Sprintf("%d lanes", lanes), "16")
	}
	return nil
}

func checkBcrypt(f []string) (int, error) { // 2b$12$salt and key
	if len(f) != 3 {
		return 0, errDamaged
	}
	// Below 4 the library silently takes another cost.
	cost, err := strconv.Atoi(f[1])
	switch {
	case err != nil || cost < 4:
		return 0, errors.New("bcrypt: the cost is not a number from 4 to 14")
	case cost > maxBcryptCost:
		return 0, tooCostly(fmt.Sprintf("2^%d rounds", cost), fmt.Sprintf("2^%d", maxBcryptCost))
	}
	return 2, nil
}

// checkSHACrypt checks "6$rounds=10000$salt$key" or, with 5000 rounds,
// "6$salt$key". keyLen is the length of the key in characters.
func checkSHACrypt(keyLen int) func(f []string) (int, error) {
	return func(f []string) (int, error) {
		kind := 1
		if len(f) == 4 {
			kind = 2
			text, _ := strings.CutPrefix(f[1], "rounds=")
			rounds, err := boundedRounds(text, maxSHARounds)
			if err != nil {
				return 0, err
			}
			if rounds < shacrypt.IterationsMin { // crypt(3) never writes fewer
				return 0, errDamaged
			}
		}
		// crypt(3) cuts the salt at 16; the library would not.
		if len(f) != kind+2 || len(f[kind]) > shacrypt.SaltLengthMax || len(f[kind+1]) != keyLen {
			return 0, errDamaged
		}
		return kind, nil
	}
}

func checkMD5Crypt(f []string) (int, error) { // 1$salt$key
	if len(f) != 3 || len(f[1]) > md5crypt.SaltLengthMax || len(f[2]) != 22 {
		return 0, errDamaged
	}
	return 1, nil
}

func checkSHA1Crypt(f []string) (int, error) { // sha1$rounds$salt$key
	if len(f) != 4 || len(f[2]) == 0 || len(f[3]) != 28 {
		return 0, errDamaged
	}
	_, err := boundedRounds(f[1], maxSHARounds)
	return 2, err
}

func checkPBKDF2(f []string) (int, error) { // pbkdf2-sha256$rounds$salt$key
	// A key longer than the hash multiplies the rounds.
	if len(f) != 4 || base64Size(f[3]) < minKey || base64Size(f[3]) > 64 {
		return 0, errDamaged
	}
	_, err := boundedRounds(f[1], maxPBKDF2Rounds)
	return 2, err
}

// base64Size is the number of octets in unpadded base64 text.
func base64Size(text string) int { return len(text) * 6 / 8 }
