package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// poller polls one server as a mail client does, and keeps its buffers.
type poller struct {
	dial       dialer
	addr       string
	list, uidl []byte
	checked    map[string]answers // by user
}

// answers are the replies of one session.
type answers struct {
	stat       string
	list, uidl []byte
}

// poll is one session: connect, USER, PASS, STAT, UIDL, LIST, QUIT, each sent
// after the reply to the one before. What came is checked when the clock has
// stopped.
func (p *poller) poll(ctx context.Context, b mailbox) (time.Duration, error) {
	begin := time.Now()
	c, err := p.dial.logIn(ctx, p.addr, b.user)
	if err != nil {
		return 0, err
	}
	defer c.close()
	stat, err := c.command("STAT")
	if err != nil {
		return 0, err
	}
	if p.uidl, err = c.listing("UIDL", p.uidl[:0]); err != nil {
		return 0, err
	}
	if p.list, err = c.listing("LIST", p.list[:0]); err != nil {
		return 0, err
	}
	if err := c.quit(); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, p.check(answers{stat, p.list, p.uidl}, b)
}

// check takes what was right once for right when it comes again: in a storm the
// time of checking is the server's too.
func (p *poller) check(got answers, b mailbox) error {
	if have, ok := p.checked[b.user]; ok && have.stat == got.stat && bytes.Equal(have.list, got.list) && bytes.Equal(have.uidl, got.uidl) {
		return nil
	}
	if err := checkListing(got.stat, got.list, got.uidl, b.messages); err != nil {
		return err
	}
	if p.checked == nil {
		p.checked = make(map[string]answers)
	}
	p.checked[b.user] = answers{got.stat, bytes.Clone(got.list), bytes.Clone(got.uidl)}
	return nil
}

// polls is the median time in ms of n sessions.
func polls(ctx context.Context, addr string, b mailbox, n int) (float64, error) {
	p := poller{dial: alone, addr: addr}
	var times []float64
	for range n {
		took, err := p.poll(ctx, b)
		if err != nil {
			return 0, err
		}
		times = append(times, ms(took))
	}
	return spreadOf(times).median, nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// listed logs in and asks for the sizes.
func (d dialer) listed(ctx context.Context, addr, user string) (*client, []int64, error) {
	c, err := d.logIn(ctx, addr, user)
	if err != nil {
		return nil, nil, err
	}
	list, err := c.listing("LIST", nil)
	if err == nil {
		var sizes []int64
		if sizes, err = parseSizes(list); err == nil {
			return c, sizes, nil
		}
	}
	c.close()
	return nil, nil, err
}

// download gets the first n messages with up to window RETRs under way and
// returns MB/s, from the first RETR to the last octet.
func download(ctx context.Context, addr, user string, n, window int) (float64, error) {
	c, sizes, err := dialer(alone).listed(ctx, addr, user)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if len(sizes) < n {
		return 0, fmt.Errorf("%d messages, not %d", len(sizes), n)
	}
	var total int64
	var commands []byte
	begin := time.Now()
	for done, sent := 0, 0; done < n; done++ {
		// Half a window at a time, so that commands go out together.
		if sent-done <= window/2 {
			for commands = commands[:0]; sent < min(done+window, n); sent++ {
				commands = retrCommand(commands, sent+1)
			}
			if len(commands) > 0 {
				if err := c.send(commands); err != nil {
					return 0, err
				}
			}
		}
		octets, _, err := c.message(nil)
		if err != nil {
			return 0, fmt.Errorf("RETR %d: %w", done+1, err)
		}
		if octets != sizes[done] {
			return 0, wrongSize(done, octets, sizes[done])
		}
		total += octets
	}
	took := time.Since(begin)
	return float64(total) / 1e6 / took.Seconds(), c.quit()
}

// bigMessage gets message 1: MB/s, and the ms until its first octet.
func bigMessage(ctx context.Context, addr, user string) (rate, first float64, err error) {
	c, sizes, err := dialer(alone).listed(ctx, addr, user)
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	begin := time.Now()
	if err := c.send(retrCommand(nil, 1)); err != nil {
		return 0, 0, err
	}
	octets, at, err := c.message(nil)
	took := time.Since(begin)
	if err != nil {
		return 0, 0, err
	}
	if octets != sizes[0] {
		return 0, 0, wrongSize(0, octets, sizes[0])
	}
	return float64(octets) / 1e6 / took.Seconds(), ms(at.Sub(begin)), c.quit()
}

// storm has clients poll without pause, each its own part of the boxes in turn
// (their number is a multiple of clients): sessions a second, and the 99th percentile of their times in ms.
func storm(ctx context.Context, addr string, boxes []mailbox, clients int, lasting time.Duration) (rate, p99 float64, err error) {
	var (
		mu    sync.Mutex
		times []float64
		all   sync.WaitGroup
	)
	begin := time.Now()
	for k := range clients {
		all.Go(func() {
			p := poller{dial: amongMany, addr: addr}
			var mine []float64
			var failed error
			for i := k; time.Since(begin) < lasting && failed == nil; i = (i + clients) % len(boxes) {
				var took time.Duration
				if took, failed = p.poll(ctx, boxes[i]); failed == nil {
					mine = append(mine, ms(took))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			err = errors.Join(err, failed)
		})
	}
	all.Wait()
	took := time.Since(begin)
	if err != nil {
		return 0, 0, err
	}
	slices.Sort(times)
	return float64(len(times)) / took.Seconds(), percentile(times, 99), nil
}

// pipelined sends NOOP, LIST n and UIDL n for each message in turn, n commands
// in all, without waiting for replies: commands a second.
func pipelined(ctx context.Context, addr, user string, n int) (float64, error) {
	c, err := dialer(alone).logIn(ctx, addr, user)
	if err != nil {
		return 0, err
	}
	defer c.close()
	list, err := c.listing("LIST", nil)
	if err != nil {
		return 0, err
	}
	uidl, err := c.listing("UIDL", nil)
	if err != nil {
		return 0, err
	}
	values := [3][][]byte{nil, bytes.SplitAfter(list, []byte{'\n'}), bytes.SplitAfter(uidl, []byte{'\n'})}
	messages := len(values[1]) - 2 // the final dot, and nothing behind it
	var commands []byte
	for i := range n {
		commands = append(commands, [3]string{"NOOP", "LIST ", "UIDL "}[i%3]...)
		if i%3 > 0 {
			commands = strconv.AppendInt(commands, int64(i/3%messages+1), 10)
		}
		commands = append(commands, "\r\n"...)
	}
	replies := make([]byte, 0, 100*n)
	sent := make(chan error, 1)
	begin := time.Now()
	go func() { sent <- c.send(commands) }()
	for lines := 0; lines < n; {
		if cap(replies)-len(replies) < readSize {
			replies = slices.Grow(replies, len(replies)+readSize)
		}
		got, err := c.nc.Read(replies[len(replies):cap(replies)])
		if got == 0 && err != nil {
			return 0, err
		}
		lines += bytes.Count(replies[len(replies):len(replies)+got], []byte{'\n'})
		replies = replies[:len(replies)+got]
	}
	took := time.Since(begin)
	if err := <-sent; err != nil {
		return 0, err
	}
	for i, reply := range bytes.SplitAfter(replies, []byte{'\n'})[:n] {
		want := []byte("+OK")
		if i%3 > 0 {
			want = append([]byte("+OK "), values[i%3][i/3%messages]...)
		}
		if !bytes.HasPrefix(reply, want) {
			return 0, fmt.Errorf("command %d is answered %q, want %q", i+1, reply, want)
		}
	}
	return float64(n) / took.Seconds(), c.quit()
}

// idle holds a session for each box and says what memory the server takes for
// one, in kB. first is polled before: what the first session of all needs is not for
// each of them.
func idle(ctx context.Context, s *server, first mailbox, boxes []mailbox, d dialer) (float64, error) {
	if err := s.restart(ctx); err != nil {
		return 0, err
	}
	if _, err := polls(ctx, s.addr, first, 2); err != nil {
		return 0, err
	}
	before, err := s.memory()
	if err != nil {
		return 0, err
	}
	var open []*client
	defer func() {
		for _, c := range open {
			c.close()
		}
	}()
	for _, b := range boxes {
		c, sizes, err := d.listed(ctx, s.addr, b.user)
		if err != nil {
			return 0, fmt.Errorf("session %d: %w", len(open)+1, err)
		}
		open = append(open, c)
		if len(sizes) != b.messages {
			return 0, fmt.Errorf("session %d has %d messages", len(open), len(sizes))
		}
	}
	time.Sleep(time.Second) // what the logins left behind is tidied up
	after, err := s.memory()
	if err != nil {
		return 0, err
	}
	for i, c := range open {
		if _, err := c.command("NOOP"); err != nil {
			return 0, fmt.Errorf("session %d did not live: %w", i+1, err)
		}
	}
	return (after - before) / float64(len(boxes)), nil
}
