package maildroptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pop3gw/gateway"
)

// TestMarkedAlone tests that, whatever the policy and whatever other programs do
// meanwhile, Delete takes away no message but those it was given, and that hidden
// messages stay.
func TestMarkedAlone(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Run("MarkedAlone", func(t *testing.T) {
		f := newFixture(t)
		random := rand.New(rand.NewPCG(1, 2))
		for k := range 60 {
			markedAlone(t, f, random, k)
			if t.Failed() {
				return
			}
		}
	})
}

func markedAlone(t *testing.T, f Fixture, random *rand.Rand, k int) {
	some := func(n int) bool { return random.IntN(n) == 0 }
	pick := func(n int) (picked []int) {
		for i := range n {
			if some(3) {
				picked = append(picked, i)
			}
		}
		return picked
	}
	n := random.IntN(12)
	var messages [][]byte
	for i := range n + 2 {
		messages = append(messages, fmt.Appendf(nil, "Subject: message-%d-%d.\r\n\r\nText.\r\n", k, i))
	}
	account := f.Create(t, messages[:n])
	w := &gateway.Window{MaxMessages: random.IntN(5), UnseenOnly: some(2)}
	account.Policy = gateway.Policy{
		OnDelete:     []gateway.OnDelete{gateway.Expunge, gateway.MoveToTrash, gateway.SeenOnDelete, gateway.KeepOnDelete}[random.IntN(4)],
		OnRetrieve:   []gateway.OnRetrieve{gateway.KeepOnRetrieve, gateway.SeenOnRetrieve}[random.IntN(2)],
		TrashMailbox: "Trash",
		Window:       w,
	}
	read := pick(n)
	for _, i := range read {
		f.Read(t, account, i)
	}
	// What the window should show, by index in messages.
	var shown []int
	for i := range n {
		if !w.UnseenOnly || !slices.Contains(read, i) {
			shown = append(shown, i)
		}
	}
	if over := len(shown) - w.MaxMessages; w.MaxMessages > 0 && over > 0 {
		shown = shown[over:]
	}
	d := open(t, f, account)
	defer closeMaildrop(t, d)
	said := fmt.Sprintf("policy %+v, window %+v, %d messages, read %v", account.Policy, *w, n, read)
	if d.Len() != len(shown) {
		t.Fatalf("%s: %d are shown, want %v", said, d.Len(), shown)
	}
	for at, i := range shown {
		if some(2) && string(retrieve(t, d, at, -1)) != string(messages[i]) {
			t.Fatalf("%s: message %d is not %d", said, at, i)
		}
	}
	var gone []int
	if some(2) && n > 0 {
		i := random.IntN(n)
		f.Remove(t, account, i)
		gone = append(gone, i)
	}
	for i := n; i < n+random.IntN(3); i++ {
		f.Add(t, account, messages[i])
	}
	marked := pick(d.Len())
	var reported []int
	err := d.Delete(context.Background(), marked, func(at int) { reported = append(reported, at) })
	if slices.Sort(reported); err != nil || !slices.Equal(reported, marked) {
		t.Fatalf("%s: Delete of %v reported %v, %v", said, marked, reported, err)
	}
	left, trash := f.List(t, account), f.Trash(t, account)
	has := func(list [][]byte, i int) bool {
		return slices.ContainsFunc(list, func(raw []byte) bool { return string(raw) == string(messages[i]) })
	}
	for i := range n {
		at := slices.Index(shown, i)
		mayGo := at >= 0 && slices.Contains(marked, at) || slices.Contains(gone, i)
		leaves := mayGo && (account.Policy.OnDelete == gateway.Expunge || account.Policy.OnDelete == gateway.MoveToTrash || slices.Contains(gone, i))
		if has(left, i) == leaves {
			t.Fatalf("%s: marked %v of %v, gone %v: message %d is there: %v", said, marked, shown, gone, i, !leaves)
		}
		moved := leaves && account.Policy.OnDelete == gateway.MoveToTrash && !slices.Contains(gone, i)
		if has(trash, i) != moved {
			t.Fatalf("%s: marked %v of %v, gone %v: message %d is in the trash: %v", said, marked, shown, gone, i, !moved)
		}
	}
}
