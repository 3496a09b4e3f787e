package maildir

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pop3gw/gateway/uidl"
)

// manyMessages are n as several programs name them, in order.
func manyMessages(n int) []message {
	rng := rand.New(rand.NewPCG(1, 2))
	var messages []message
	for i := range n {
		seconds := 1_700_000_000 + int64(i)*61 + rng.Int64N(60)
		micros := rng.Int64N(1e6)
		name := fmt.Sprintf("%d.M%dP%d.host.example.org,S=%d,W=%d", seconds, micros, rng.IntN(1<<22), 4000+rng.IntN(1e5), 4100+rng.IntN(1e5))
		if n < 1000 {
			switch i % 7 {
			case 1: // maildrop of Courier
				name = fmt.Sprintf("%d.M%dP%dV%016XI%016X_%d.host.example.org,S=%d", seconds, micros, rng.IntN(1<<22), 0x801, rng.IntN(1<<24), i%3, rng.IntN(1e6))
			case 2: // virtual(8) of Postfix
				name = fmt.Sprintf("%d.V%xI%xM%d.host.example.org", seconds, 0x801, rng.IntN(1<<24), micros)
			case 3: // qmail
				name = fmt.Sprintf("%d.%d.host", seconds, rng.IntN(1<<15))
			case 4:
				name = fmt.Sprintf("%d.M%06dP007Q%d.mx.example.org", seconds, micros%1000, i)
			case 5:
				name = fmt.Sprintf("%d.12345678901234567890123_%s", seconds, []string{"", "\xff ,", "0", "AB01"}[i%4])
			case 6:
				name = fmt.Sprintf("x%d%s", i, bytes.Repeat([]byte("long"), i))
			}
		}
		m := newMessage(subdir(rng.IntN(2)), name+[]string{"", ":2,", ":2,S", ":2,RS", ":1"}[rng.IntN(5)])
		m.file = identity{inode: 5_000_000 + uint64(i)*3 + rng.Uint64N(9), size: 4000 + rng.Int64N(1e5), modified: (seconds*1e6+micros)*1000 + rng.Int64N(1e7)}
		m.octets, m.state = m.file.size+m.file.size/70, readable
		if n < 1000 && i%11 == 0 {
			m.octets, m.fresh = 1<<32+int64(i), true
		}
		if n < 1000 && i%13 == 0 {
			m.state, m.octets = unreadable, m.file.size
		}
		messages = append(messages, m)
	}
	slices.SortFunc(messages, compare)
	return messages
}

func TestPack(t *testing.T) {
	for n := range 200 {
		messages := manyMessages(n)
		p := pack(messages)
		if got := p.unpack(); len(got) != n || n > 0 && !reflect.DeepEqual(got, messages) {
			t.Fatalf("%d messages: %+v\nwant %+v", n, got, messages)
		}
		again, err := readPacked(p.data, uint64(n))
		if err != nil || !reflect.DeepEqual(again, p) && n > 0 {
			t.Fatalf("%d messages read: %v, %v", n, again, err)
		}
	}
}

// Any message is found from any other.
func TestCursor(t *testing.T) {
	messages := manyMessages(150)
	p := pack(messages)
	c := cursor{packed: &p}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		i := rng.IntN(len(messages))
		if rng.IntN(2) == 0 {
			i = min(c.behind, len(messages)-1)
		}
		want := messages[i]
		m := *c.seek(i)
		if p.size(i) != want.octets || string(c.base()) != want.base() || c.delivered() != want.delivered {
			t.Fatalf("message %d is %q of %d octets, want %q of %d", i, c.name, p.size(i), want.name, want.octets)
		}
		m.name, m.delivered = string(c.name), want.delivered
		if !reflect.DeepEqual(m, want) {
			t.Fatalf("message %d is %+v, want %+v", i, m, want)
		}
	}
}

func TestPackedIsSmall(t *testing.T) {
	p := pack(manyMessages(100_000))
	if each := float64(p.memory()) / 100_000; each > 40 {
		t.Errorf("%.1f octets for each message", each)
	}
}

func FuzzDifference(f *testing.F) {
	for _, pair := range [][2]string{
		{"1700000000.M5P6.host", "1700000001.M05P7.host"}, {"", "x"}, {"a0000000000000801I", "a000000000000080FI"},
		{"123456789012345678", "999999999999999999"}, {"0", "00"}, {"abab", "ab"}, {"F", "F0"}, {"1A", "1B"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, before, name string) {
		if b, ok := appendNumbers(nil, []byte(before), []byte(name)); ok {
			d := decoder{rest: b}
			numbers := appendSplit(nil, []byte(before))
			got, _ := d.numbers(numbers, []byte(before), nil)
			if again := appendSplit(nil, got); !slices.Equal(again, numbers) {
				t.Errorf("%q has the numbers %v, not %v", got, again, numbers)
			}
			if string(got) != name || d.failed || len(d.rest) > 0 {
				t.Errorf("%q from %q by numbers is %q", name, before, got)
			}
		}
		d := decoder{rest: appendDifference(nil, []byte(before), []byte(name))}
		if got := d.difference(nil, []byte(before)); string(got) != name || d.failed || len(d.rest) > 0 {
			t.Errorf("%q from %q is %q", name, before, got)
		}
		d = decoder{rest: []byte(name)}
		d.numbers(appendSplit(nil, []byte(before)), []byte(before), nil) // whatever it is told
	})
}

// BenchmarkUIDL writes all unique-ids of 100,000 messages.
func BenchmarkUIDL(b *testing.B) {
	p := pack(manyMessages(100_000))
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = out[:0]
		c := cursor{packed: &p}
		for i := range p.len() {
			c.seek(i)
			out = uidl.AppendLegal(append(out, c.base()...), len(out))
		}
	}
	b.ReportMetric(float64(p.memory())/100_000, "octets/message")
}
