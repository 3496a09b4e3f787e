package merge

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pop3gw/gateway"
	"pop3gw/gateway/maildroptest"
)

// open returns folders in memory as one maildrop: texts are the unique-ids of the
// messages of each.
func open(t *testing.T, m *maildroptest.Memory, adapter gateway.Adapter, folders map[string][]string, order ...string) *Maildrop {
	t.Helper()
	var parts []Part
	for _, name := range order {
		m.Add("ann " + name)
		for _, uid := range folders[name] {
			m.Add("ann "+name, maildroptest.Message{UID: uid, Raw: []byte(name + " " + uid + "\r\n")})
		}
		d, err := adapter.Open(t.Context(), gateway.Account{Name: "ann " + name})
		if err != nil {
			t.Fatal(err)
		}
		if name == "INBOX" {
			name = ""
		}
		parts = append(parts, Part{d, name})
	}
	return New(parts)
}

func uids(d *Maildrop) (list []string) {
	for i := range d.Len() {
		list = append(list, string(d.AppendUID(nil, i)))
	}
	return list
}

var folders = map[string][]string{"INBOX": {"1", "2"}, "Empty": nil, "Junk": {"1", "2", strings.Repeat("x", 70)}, "Work": {"1"}}

func TestUIDs(t *testing.T) {
	m := new(maildroptest.Memory)
	d := open(t, m, m, folders, "INBOX", "Empty", "Junk", "Work")
	all := uids(d)
	if d.Len() != 6 || all[0] != "1" || all[1] != "2" || !strings.HasPrefix(all[2], "1-") || !strings.HasPrefix(all[4], "merged-") {
		t.Errorf("unique-ids are %q", all)
	}
	seen := make(map[string]bool)
	for _, uid := range all {
		if seen[uid] || len(uid) > 70 {
			t.Errorf("%q is there twice, or too long", uid)
		}
		seen[uid] = true
	}
	// They do not depend on the order of the folders, nor on which others there are.
	m = new(maildroptest.Memory)
	if other := uids(open(t, m, m, folders, "Work", "INBOX")); !slices.Equal(other, []string{all[5], "1", "2"}) {
		t.Errorf("in another order they are %q, and were %q", other, all)
	}
	// A name that looks like one of another folder's is none.
	m = new(maildroptest.Memory)
	if odd := uids(open(t, m, m, map[string][]string{"INBOX": {all[2]}, "Junk": {"1"}}, "INBOX", "Junk")); odd[0] == odd[1] || odd[1] != all[2] {
		t.Errorf("unique-ids are %q", odd)
	}
}

func TestDelete(t *testing.T) {
	m := new(maildroptest.Memory)
	no := errors.New("no right")
	d := open(t, m, &maildroptest.Faults{Adapter: m, DeleteErr: map[int]error{1: no}}, folders, "INBOX", "Empty", "Junk", "Work")
	var removed []int
	err := d.Delete(t.Context(), []int{0, 1, 2, 4, 5}, func(i int) { removed = append(removed, i) })
	if !errors.Is(err, no) || !slices.Equal(removed, []int{0, 2, 4, 5}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	for name, want := range map[string]string{"INBOX": "2", "Junk": "2", "Work": ""} {
		var left []string
		for _, msg := range m.Messages("ann " + name) {
			left = append(left, msg.UID)
		}
		if got := strings.Join(left, " "); got != want {
			t.Errorf("in %s are left %q, want %q", name, got, want)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
