package enrol

import (
	"crypto/rand"
	"strings"
)

// passwordDigits are 32 that nobody takes for one another on paper or on a
// scanner's display.
const passwordDigits = "abcdefghijkmnpqrstuvwxyz23456789"

// newPassword makes one up, of 100 bits, in a form that can be typed in:
// "hxkwp-7nmr3-qtz2c-vbe84".
func newPassword() string {
	random := make([]byte, 20)
	rand.Read(random) // never fails
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%5 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(passwordDigits[r%32])
	}
	return b.String()
}
