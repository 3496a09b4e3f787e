package account

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// Made by "doveadm pw" of Dovecot 2.3.19 and, without a scheme, by crypt(3) of
// libxcrypt 4.4.33; scrypt and PBKDF2 by Python's hashlib. The password is "s3cret pass" unless another is given.
var vectors = []struct{ stored, password, kind string }{
	{stored: "{PLAIN}s3cret pass", kind: "PLAIN"},
	{stored: "{CLEAR}s3cret pass", kind: "PLAIN"},
	{stored: "{CLEARTEXT}s3cret pass", kind: "PLAIN"},
	{stored: "{PLAIN.B64}czNjcmV0IHBhc3M=", kind: "PLAIN"},
	{stored: "{PLAIN.HEX}7333637265742070617373", kind: "PLAIN"},
	{stored: "{PLAIN-MD5}5211da5c87b0c916f11bbeb561492eef", kind: "MD5"},
	{stored: "{PLAIN-MD5}UhHaXIewyRbxG761YUku7w==", kind: "MD5"},
	{stored: "{PLAIN-MD5.B64}UhHaXIewyRbxG761YUku7w==", kind: "MD5"},
	{stored: "{LDAP-MD5}UhHaXIewyRbxG761YUku7w==", kind: "MD5"},
	{stored: "{LDAP-MD5}5211da5c87b0c916f11bbeb561492eef", kind: "MD5"},
	{stored: "{LDAP-MD5.HEX}5211da5c87b0c916f11bbeb561492eef", kind: "MD5"},
	{stored: "{SHA}ohgYgF2kkgMlRbH1HlEDczlOc+M=", kind: "SHA1"},
	{stored: "{SHA1}ohgYgF2kkgMlRbH1HlEDczlOc+M=", kind: "SHA1"},
	{stored: "{SHA}a21818805da492032545b1f51e510373394e73e3", kind: "SHA1"},
	{stored: "{SHA.HEX}a21818805da492032545b1f51e510373394e73e3", kind: "SHA1"},
	{stored: "{sha.hex}A21818805DA492032545B1F51E510373394E73E3", kind: "SHA1"},
	{stored: "{SHA256}CZp1TIJR+4oAG2ZCr7Ulm9LttwVne5OfbvTADKseY4k=", kind: "SHA256"},
	{stored: "{SHA256.B64}CZp1TIJR+4oAG2ZCr7Ulm9LttwVne5OfbvTADKseY4k=", kind: "SHA256"},
	{stored: "{SHA512}iDV58CjGXR/fodpcqM+YrvYL46tZ4LccrS8CXnbGVZIcTG5ypAzUTCvnN6rbubtd1p8szgYt4mOSWlgJPqN1Ww==", kind: "SHA512"},
	{stored: "{SHA512.HEX}883579f028c65d1fdfa1da5ca8cf98aef60be3ab59e0b71cad2f025e76c655921c4c6e72a40cd44c2be737aadbb9bb5dd69f2cce062de263925a58093ea3755b", kind: "SHA512"},
	{stored: "{SMD5}AnfxMs/PbqwOZ4rdS8YSdQlfDFw=", kind: "SMD5"},
	{stored: "{SMD5.HEX}e1f75fb89b561b800e4e8b64280826cf12c3e3fc", kind: "SMD5"},
	{stored: "{SSHA}WxMeMp+BQzPaD1ZULvT6bkeyOmE2F0iu", kind: "SSHA"},
	{stored: "{SSHA.HEX}7e850a318cbc3d4a5fa705bfeb69c7cc762539f9e9565500", kind: "SSHA"},
	{stored: "{SSHA256}vf+ZKqk2h8u3e6vli9/aPXzz3UKmKoRoPOAmQIKVr+FpEpJO", kind: "SSHA256"},
	{stored: "{SSHA256.BASE64}FlNsqEv0IPkrh6RX8E5oR8tdFZN9gVj2Jj296rVd6XNC30O8", kind: "SSHA256"},
	{stored: "{SSHA512}rpsmkIh7c8Q/QFULrmER22GswVnkt1pAOEQI9D+B0pKjgd0yUWouiCculHCNd0HzdhHB7kqcGQQ2e83RjnUKaD3XSko=", kind: "SSHA512"},
	{stored: "{CRYPT}$2y$05$npRiTDcWxiNvkOKAMHzUWeMmSOyYLvNwM.aFTBKxEf/g60NbrJoHe", kind: "2b$5"},
	{stored: "{MD5}$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt11", kind: "1"},
	{stored: "{MD5-CRYPT}$1$iysdvFLT$/cOXdwFrrG2U9FborJ5Yx/", kind: "1"},
	{stored: "{BLF-CRYPT}$2y$05$9pGTTKqNIXYQybJ2pHkTZeseilTDXo1Uy7rao/nQEy8M9iJDyEzaC", kind: "2b$5"},
	{stored: "{BLF-CRYPT}$2y$06$L9SuxPIFyzfXgmWVA2Tre.DlrsubebmPa6RydQRZI7c7z7D1NSOiW", kind: "2b$6"},
	{stored: "{SHA256-CRYPT}$5$T.q2OM.2hEa4HzDR$.ZSH2VBc5Qg6T37uhEzPLME3m11jlQ9jwPNRUhzXds2", kind: "5"},
	{stored: "{SHA256-CRYPT}$5$rounds=1000$GbJTrHVkyfY7MSN3$CWVittpvls24KQsjHwV/soweuHZ6T7zQgfg.85ZDET/", kind: "5$rounds=1000"},
	{stored: "{SHA512-CRYPT}$6$KP23rimnihus3SaS$17CXe/j6S0j21qZDhP7uakMbcHLONM7jNuRDT4Dzn1h4J1kbtzj9vsS/Uhp95lrHjCPv8690ZAiCPGGzH/BWx1", kind: "6"},
	{stored: "{SHA512-CRYPT}$6$rounds=7777$uAlj8Yu07ynmFD41$4LtSIkJsEk6fMDeONxSVic5rIFNc/q/UC2aoUMjcmLio7M.SHTDM5nqPxaA0IeJhN7H42eYZycBlVuz52Kqoo1", kind: "6$rounds=7777"},
	{stored: "{SHA512-CRYPT.B64}JDYkd1g4QmlCZ1pkc09lV1NKMSR6aXROaVo3bHcvM3JlU0NiZXk1S1FpVkNyR0lVT0JJSGF0QXJzUFhtNWY0eVVsUUhGdWJCN3NRYzkzQTVUQ1hraXZQdG1UUXpSZ2t3Wm5qTjY0clQyLw==", kind: "6"},
	{stored: "{PBKDF2}$1$Jz/xXkDk//xy3zza$5000$881ca1bcaee9fa8a6cf5c188b68a708b9797b064", kind: "PBKDF2 rounds=5000"},
	{stored: "{PBKDF2}$1$s23t0df10W93gKGY$1234$1fb14b4984f1c474089da5933d3e6bdfe05fc03a", kind: "PBKDF2 rounds=1234"},
	{stored: "{SCRAM-SHA-1}4096,EDST7mbRWdJODvo5m7TgFw==,nkwHTOasCA2g29XiQNkcQoAyG0A=,KhdzRuBNykLA7s423vlHi54uSg0=", kind: "SCRAM-SHA-1 rounds=4096"},
	{stored: "{SCRAM-SHA-256}4096,W7LZo2HCNJwda/XEv3/GAw==,SfvbHeLZYzzTIzKwxrLGlGh5Sr97jmPFWPNseWeuZ4I=,79zNVsMwILahxdP3tjeTXZWBRrzZtABGVZilODp8sQg=", kind: "SCRAM-SHA-256 rounds=4096"},
	{stored: "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$76XWIq2wYA8dCG9zqzoaaA$GJ7qah4+J9zEdSqsW0byYErBK9vllSTPvPvxyF3M+Hw", kind: "argon2i$v=19$m=32768,t=4,p=1"},
	{stored: "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$p6sqG5F7tF6USzVz7K6R3g$uvwZZ72LVe6ztEZ+LQylSmKVzMWZqWNMUu9IVNfGMWY", kind: "argon2id$v=19$m=65536,t=3,p=1"},
	{stored: "$y$j9T$nU2C4ZxyGG9KqSFgJ6FkM1$LzR/dRURqTl3krvpTAtd38iIJOpoJGYv3NRtMz1Elw2", kind: "y$j9T"},
	{stored: "$sha1$1000$abcdefgh$F..NRnN0H/AqgJsDFSww/N9GYxHK", kind: "sha1$1000"},
	{stored: "$scrypt$ln=10,r=8,p=2$MDEyMzQ1Njc4OWFiY2RlZg$fn/Ru08n4VuPU1HdxfriTQx/AIvy7wQUHwD/NacGIC4", kind: "scrypt$ln=10,r=8,p=2"},
	{stored: "$pbkdf2$1200$MDEyMzQ1Njc4OWFiY2RlZg$p7HtGCbQVSzJFTywg5Tfr2W46Ck", kind: "pbkdf2$1200"},
	{stored: "$pbkdf2-sha256$1200$MDEyMzQ1Njc4OWFiY2RlZg$PvCmiIRuiCNTOjjJARRmIborzDGD0GEXV/tkIu0fZ1Y", kind: "pbkdf2-sha256$1200"},
	{stored: "$pbkdf2-sha512$1200$MDEyMzQ1Njc4OWFiY2RlZg$CMej/4u5DkcqIZ41Nijuoxz5YNwBQ1uMwrap9bxJm1XNLg67a8kef.hib7J/jC359dhEek492yBbu86OLGA9eA", kind: "pbkdf2-sha512$1200"},
	{stored: "$2a$05$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW", kind: "2b$5"},
	{stored: "$5$rounds=1500$0123456789abcdef$X82koQ2I9PTuW/l22hSCYi5WejAydp2i2kgUyod3IC7", password: "p\u00e4ss", kind: "5$rounds=1500"},
	{stored: "$6$rounds=2000$saltstring$AgVtmyibTNTJrm42Pf4MVJ2OutQmFVaorwtWnNjSmPJqJbOOHmpXXGxHOS45jn82t5sMbO0qYwEV0DIcZv2Tn0", password: strings.Repeat("x", 100), kind: "6$rounds=2000"},
	{stored: "$2b$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q", password: strings.Repeat("x", 100), kind: "2b$5"},
}

func TestSecretVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.stored[:min(len(v.stored), 24)], func(t *testing.T) {
			if v.password == "" {
				v.password = "s3cret pass"
			}
			s, err := parseSecret(v.stored)
			if err != nil {
				t.Fatalf("parseSecret(%q): %v", v.stored, err)
			}
			if s.kind != v.kind {
				t.Errorf("kind %q, want %q", s.kind, v.kind)
			}
			if !s.match([]byte(v.password)) {
				t.Errorf("%q does not match %q", v.password, v.stored)
			}
			for _, wrong := range []string{"", "S3cret pass", "s3cret pas", "s3cret pass ", "x"} {
				if s.match([]byte(wrong)) {
					t.Errorf("%q matches %q", wrong, v.stored)
				}
			}
			if digestOnly := !strings.ContainsAny(v.kind, "$= ") && v.kind != "1" && v.kind != "5" && v.kind != "6"; s.costly == digestOnly {
				t.Errorf("costly = %v", s.costly)
			}
		})
	}
}

func TestSecretErrors(t *testing.T) {
	const (
		salt43 = "p6sqG5F7tF6USzVz7K6R3g$uvwZZ72LVe6ztEZ+LQylSmKVzMWZqWNMUu9IVNfGMWY"
		sha86  = "17CXe/j6S0j21qZDhP7uakMbcHLONM7jNuRDT4Dzn1h4J1kbtzj9vsS/Uhp95lrHjCPv8690ZAiCPGGzH/BWx1"
	)
	tests := []struct{ stored, want string }{
		{"", "{PLAIN}"},
		{"Tr0ub4dor", "{PLAIN}"},
		{"YPoBT6FYdFNN2", "{PLAIN}"},
		{"{PLAIN}", "empty"},
		{"{PLAIN", `"}" is missing`},
		{"{Tr0ub4dor}", "is not known"},
		{"{}x", "is not known"},
		{"{DES-CRYPT}YPoBT6FYdFNN2", "{DES-CRYPT} is not supported"},
		{"{CRYPT}YPoBT6FYdFNN2", "DES hashes are not supported"},
		{"{CRAM-MD5}fa85791b68c7cce23ff7b9e3ede4ca06ac2d1eff94e0aec3c8dc81b73dc8e7e6", "{CRAM-MD5} is not supported"},
		{"{SHA.B32}AAAA", "suffix"},
		{"{SHA.}AAAA", "suffix"},
		{"{SHA}ohgYgF2kkgMlRbH1HlEDczlOc+", "cut short"},
		{"{SHA}ohgYgF2kkgMlRbH1HlEDczlOc+M=x", "cut short"},
		{"{PLAIN-MD5}5211da5c87b0c916f11bbeb561492eeg", "cut short"},
		{"{SSHA}ohgYgF2kkgMlRbH1HlEDczlOc+M=", "cut short"}, // no salt
		{"{SSHA}", "cut short"},
		{"$Tr0ub4dor", "does not begin"},
		{"$Tr0ub4dor$3$", "not a hash that is supported"},
		{"$2x$05$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW", "not a hash that is supported"},
		{"$2b$05$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZE", "damaged"},
		{"$2b$03$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW", "4 to 14"},
		{"$2b$-1$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW", "4 to 14"},
		{"$2b$15$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW", "costs 2^15"},
		{"$2b$99$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW", "costs 2^99"},
		{"$argon2id$v=19$m=1048576,t=1,p=1$" + salt43, "costs 1024 MiB"},
		{"$argon2id$v=19$m=262145,t=1,p=1$" + salt43, "256 MiB is allowed"},
		{"$argon2id$v=19$m=262144,t=5,p=1$" + salt43, "costs 5 passes"},
		{"$argon2id$v=19$m=64,t=4294967295,p=1$" + salt43, "passes over"},
		{"$argon2id$v=19$m=65536,t=1,p=17$" + salt43, "costs 17 lanes"},
		{"$argon2id$v=19$m=4294967295,t=4294967295,p=4294967295$" + salt43, "costs"},
		{"$argon2id$v=18$m=65536,t=1,p=1$" + salt43, "damaged"},
		{"$argon2id$v=19$m=65536,t=1,p=1$p6sqG5F7tF6USzVz7K6R3g$uvw", "damaged"}, // so short a key fits other passwords too
		{"$argon2id$v=19$m=65536,t=1,p=1$$uvwZZ72LVe6ztEZ+LQylSmKVzMWZqWNMUu9IVNfGMWY", "damaged"},
		{"$argon2id$", "damaged"},
		{"$6$rounds=1000001$KP23rimnihus3SaS$" + sha86, "costs 1000001 rounds"},
		{"$6$rounds=999$KP23rimnihus3SaS$" + sha86, "damaged"},
		{"$6$rounds=0$KP23rimnihus3SaS$" + sha86, "positive"},
		{"$6$rounds=99999999999$KP23rimnihus3SaS$" + sha86, "damaged"},
		{"$6$KP23rimnihus3SaSx$" + sha86, "damaged"},
		{"$6$KP23rimnihus3SaS$" + sha86[1:], "damaged"},
		{"$5$KP23rimnihus3SaS$" + sha86, "damaged"},
		{"$1$v5EGzxRm$fSQK7t3xOWfOB.cbwqgt1", "damaged"},
		{"$1$v5EGzxRm9$fSQK7t3xOWfOB.cbwqgt11", "damaged"},
		{"$sha1$1000001$abcdefgh$F..NRnN0H/AqgJsDFSww/N9GYxHK", "costs 1000001 rounds"},
		{"$sha1$0$abcdefgh$F..NRnN0H/AqgJsDFSww/N9GYxHK", "positive"},
		{"$y$jMT$nU2C4ZxyGG9KqSFgJ6FkM1$LzR/dRURqTl3krvpTAtd38iIJOpoJGYv3NRtMz1Elw2", "costs"},
		{"$y$j!T$nU2C4ZxyGG9KqSFgJ6FkM1$LzR/dRURqTl3krvpTAtd38iIJOpoJGYv3NRtMz1Elw2", "damaged"},
		{"$y$j9T$nU2C4ZxyGG9KqSFgJ6FkM1$", "damaged"},
		{"$scrypt$ln=17,r=32,p=1$" + salt43, "costs 512 MiB"},
		{"$scrypt$ln=62,r=8,p=1$" + salt43, "ln must be"},
		{"$scrypt$ln=-1,r=8,p=1$" + salt43, "damaged"},
		{"$scrypt$ln=15,r=0,p=1$" + salt43, "r at least 1"},
		{"$scrypt$ln=15,r=8,p=17$" + salt43, "costs 17 lanes"},
		{"$pbkdf2-sha256$2000001$p6sqG5F7tF6USzVz7K6R3g$uvwZZ72LVe6ztEZ.LQylSmKVzMWZqWNMUu9IVNfGMWY", "costs 2000001 rounds"},
		{"$pbkdf2-sha256$1$p6sqG5F7tF6USzVz7K6R3g$" + strings.Repeat("A", 88), "damaged"},
		{"{PBKDF2}$1$Jz/xXkDk//xy3zza$0$881ca1bcaee9fa8a6cf5c188b68a708b9797b064", "positive"},
		{"{PBKDF2}$1$Jz/xXkDk//xy3zza$5000$881ca1bcaee9fa8a6cf5c188b68a708b9797b0", "40 hexadecimal"},
		{"{PBKDF2}$2$Jz/xXkDk//xy3zza$5000$881ca1bcaee9fa8a6cf5c188b68a708b9797b064", "form"},
		{"{SCRAM-SHA-256}99999999,W7LZo2HCNJwda/XEv3/GAw==,SfvbHeLZYzzTIzKwxrLGlGh5Sr97jmPFWPNseWeuZ4I=,x", "costs 99999999 rounds"},
		{"{SCRAM-SHA-256}4096,W7LZo2HCNJwda/XEv3/GAw==,nkwHTOasCA2g29XiQNkcQoAyG0A=,x", "damaged"},
		{"{SCRAM-SHA-256}4096", "form"},
		{"{PLAIN}" + strings.Repeat("x", maxSecret), "longer than 1024"},
	}
	for _, tt := range tests {
		s, err := parseSecret(tt.stored)
		if err == nil {
			t.Errorf("parseSecret(%q) = %v, want an error", tt.stored, s)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("parseSecret(%q): %q, want %q in it", tt.stored, err, tt.want)
		}
		for _, part := range strings.FieldsFunc(tt.stored, func(r rune) bool { return strings.ContainsRune("${},", r) }) {
			if len(part) > 8 && !strings.Contains(part, "-") && strings.Contains(err.Error(), part) {
				t.Errorf("parseSecret(%q): %q gives %q away", tt.stored, err, part)
			}
		}
	}
}

func TestSecretStaysOutOfText(t *testing.T) {
	s, err := parseSecret("{PLAIN}Tr0ub4dor")
	if err != nil {
		t.Fatal(err)
	}
	u := User{Name: "bob", Password: "{PLAIN}Tr0ub4dor", UpstreamPassword: "Tr0ub4dor"}
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s),
		fmt.Sprint(u), fmt.Sprintf("%+v", Config{Users: []User{u}}), u.LogValue().String(),
	} {
		if strings.Contains(text, "Tr0ub4dor") {
			t.Errorf("printed: %s", text)
		}
	}
}

// The example of RFC 1939 §7.
func TestAPOPDigest(t *testing.T) {
	const timestamp, digest = "<1896.697170952@dbc.mtview.ca.us>", "c4c9334bac560ecc979e58001b3e22fb"
	plain, err := parseSecret("{PLAIN}tanstaaf")
	if err != nil {
		t.Fatal(err)
	}
	if !plain.matchAPOP(timestamp, digest) {
		t.Error("the digest of the RFC is refused")
	}
	for _, d := range []string{"", digest[:31], digest + "0", strings.ToUpper(digest), strings.Repeat("0", 32)} {
		if plain.matchAPOP(timestamp, d) {
			t.Errorf("digest %q fits", d)
		}
	}
	if plain.matchAPOP("", md5hex("tanstaaf")) {
		t.Error("a digest without timestamp fits, so that it could be sent again")
	}
	hashed, err := parseSecret("{SHA}ohgYgF2kkgMlRbH1HlEDczlOc+M=")
	if err != nil {
		t.Fatal(err)
	}
	if hashed.matchAPOP(timestamp, md5hex(timestamp)) {
		t.Error("the digest of timestamp and an empty secret fits a user without a plain one")
	}
}

func TestHash(t *testing.T) {
	hash, err := Hash([]byte("s3cret pass"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseSecret(hash)
	if err != nil {
		t.Fatalf("parseSecret(%q): %v", hash, err)
	}
	if want := "argon2id$v=19$m=19456,t=2,p=1"; s.kind != want {
		t.Errorf("kind %q, want %q", s.kind, want)
	}
	if !s.match([]byte("s3cret pass")) || s.match([]byte("s3cret pas")) {
		t.Errorf("%q does not match its password alone", hash)
	}
	if again, _ := Hash([]byte("s3cret pass")); again == hash {
		t.Error("two hashes have the same salt")
	}
	for _, bad := range []string{"", "a\x00b", "a\nb", "a\rb", strings.Repeat("x", maxPassword+1)} {
		if _, err := Hash([]byte(bad)); err == nil {
			t.Errorf("Hash(%.10q) gives no error", bad)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.stored)
	}
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$scrypt$ln=1,r=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, stored string) {
		s, err := parseSecret(stored)
		if err != nil {
			if !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Fatalf("error %q", err)
			}
			return
		}
		if s.kind == "" || s.match == nil || s.stored != stored {
			t.Fatalf("parseSecret(%q) is incomplete", stored)
		}
		if cheap := !s.costly || len(stored) < 60; cheap && s.match([]byte("not it: \x01\xff")) && s.plain == nil {
			t.Fatalf("any password matches %q", stored)
		}
	})
}
