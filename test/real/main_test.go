//go:build real

package real

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range removeAtExit {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}
