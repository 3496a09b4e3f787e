package maildroptest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pop3gw/gateway"
)

func TestMemory(t *testing.T) { TestAdapter(t, NewMemory) }

func TestMemoryUnknownAndFolder(t *testing.T) {
	var m Memory
	m.Add("ann+Sent", Message{UID: "1", Raw: sample(1)})
	_, err := m.Open(t.Context(), gateway.Account{Name: "ann"})
	if code := gateway.CodeOf(err); code != gateway.CodeSysPerm {
		t.Errorf("a maildrop that nobody added: %v", err)
	}
	d, err := m.Open(t.Context(), gateway.Account{Name: "ann", Folder: "Sent"})
	if err != nil {
		t.Fatal(err)
	}
	if d.Len() != 1 {
		t.Errorf("the folder has %d messages", d.Len())
	}
	closeMaildrop(t, d)
}

func TestFaults(t *testing.T) {
	broken := errors.New("broken")
	m := new(Memory)
	for n := range 4 {
		m.Add("ann", Message{UID: fmt.Sprint(n), Raw: sample(n)})
	}
	f := &Faults{
		Adapter:     m,
		Sizes:       map[int]int64{1: 7},
		RetrieveErr: map[int]error{0: gateway.Gone(nil)},
		Body: map[int]BodyFault{
			1: {After: 5, Err: broken},
			2: {After: 5, Truncate: true, CloseErr: broken},
			3: {},
		},
		PermitErr:        map[int]error{1: broken},
		DeleteErr:        map[int]error{1: broken},
		MaildropCloseErr: broken,
	}
	d, err := f.Open(t.Context(), gateway.Account{Name: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if d.Size(0) != int64(len(sample(0))) || d.Size(1) != 7 {
		t.Errorf("sizes are %d and %d", d.Size(0), d.Size(1))
	}
	if _, err := d.Retrieve(t.Context(), 0, -1); !errors.Is(err, gateway.ErrGone) {
		t.Errorf("Retrieve: %v", err)
	}
	for _, c := range []struct {
		i, octets         int
		readErr, closeErr error
	}{{1, 5, broken, nil}, {2, 5, nil, broken}, {3, len(sample(3)), nil, nil}} {
		r, err := d.Retrieve(t.Context(), c.i, -1)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if len(raw) != c.octets || err != c.readErr {
			t.Errorf("message %d: %d octets, %v", c.i, len(raw), err)
		}
		if err := r.Close(); !errors.Is(err, c.closeErr) {
			t.Errorf("closing message %d: %v", c.i, err)
		}
	}
	p := d.(gateway.DeletePermitter)
	if p.PermitDelete(0) != nil || p.PermitDelete(1) != broken {
		t.Error("PermitDelete does not answer PermitErr")
	}
	wantRemoved(t, d, []int{0, 1, 2}, []int{1})
	if err := d.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
	var left []string
	for _, msg := range m.Messages("ann") {
		left = append(left, msg.UID)
	}
	if !slices.Equal(left, []string{"1", "3"}) {
		t.Errorf("left are %q", left)
	}

	f = &Faults{Adapter: m, OpenErr: broken}
	if _, err := f.Open(t.Context(), gateway.Account{Name: "ann"}); err != broken {
		t.Errorf("Open: %v", err)
	}
}

func TestFaultsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(Memory)
		m.Add("ann", Message{UID: "1", Raw: sample(1)})
		f := &Faults{Adapter: m, OpenDelay: time.Hour, RetrieveDelay: time.Minute, DeleteDelay: time.Second,
			Body: map[int]BodyFault{0: {Delay: time.Millisecond}}}
		start := time.Now()
		d, err := f.Open(t.Context(), gateway.Account{Name: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		retrieve(t, d, 0, -1)
		wantRemoved(t, d, []int{0}, nil)
		closeMaildrop(t, d)
		if took, least := time.Since(start), time.Hour+time.Minute+time.Second+time.Millisecond; took < least {
			t.Errorf("took %v, want %v at least", took, least)
		}
	})
}
