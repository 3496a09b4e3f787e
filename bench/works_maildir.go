package main

import (
	"context"
	"fmt"
)

func pollTitle(n int, where string) string {
	return fmt.Sprintf("poll, %s messages, %s", count(n), where)
}

func (l *lab) poll(n int) work {
	box := pollBox(n)
	r := row{title: pollTitle(n, "Maildir"), unit: "ms", peer: nameDovecot}
	switch n {
	case 10:
		r.ratio = 2
	case 100_000:
		r.ratio = 4
	}
	return work{name: fmt.Sprint("poll-", n), boxes: []mailbox{box}, rows: []row{r},
		contenders: l.local([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
			return one(polls(ctx, addr, box, sessionsFor(n)))
		})}
}

func (l *lab) firstCount(n int) work {
	box := mailbox{user: "first", messages: n, octets: meanOctets, sigma: 1}
	forgetful := func(name string, s *server) contender {
		return contender{name: name, measure: func(ctx context.Context) ([]float64, error) {
			if err := s.cold(ctx); err != nil {
				return nil, err
			}
			return one(polls(ctx, s.addr, box, 1))
		}}
	}
	dovecot := forgetful(nameDovecot, l.dovecot)
	// Its very first session also moves mail from new/ to cur/.
	dovecot.prepare = func(ctx context.Context) error {
		_, err := dovecot.measure(ctx)
		return err
	}
	return work{name: "first", boxes: []mailbox{box}, turns: 5,
		contenders: []contender{forgetful(nameGateway, l.gateway), dovecot},
		rows:       []row{{title: fmt.Sprintf("first count of %s messages, Maildir", count(n)), unit: "ms", peer: nameDovecot, ratio: 2}}}
}

func downloadBox(s scale) mailbox {
	return mailbox{user: "download", messages: s.downloads, octets: s.downloadOctets, sigma: 1}
}

// inFlight says how many RETRs are under way.
func inFlight(window int) (suffix, words string) {
	if window == 1 {
		return "", "one by one"
	}
	return "-pipelined", fmt.Sprintf("%d in flight", window)
}

func (l *lab) download(s scale, window int) work {
	box := downloadBox(s)
	suffix, words := inFlight(window)
	r := row{title: "download, " + words + ", Maildir", unit: "MB/s", higher: true, peer: nameDovecot}
	if window == 1 {
		r.ratio = 2
	}
	c := l.local([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
		return one(download(ctx, addr, box.user, box.messages, window))
	})
	c[0], c[1] = l.checked(c[0], l.gateway, box, box.messages), l.checked(c[1], l.dovecot, box, box.messages)
	return work{name: "download" + suffix, boxes: []mailbox{box}, contenders: c, rows: []row{r}}
}

func bigBox(s scale) mailbox { return mailbox{user: "big", messages: 1, octets: s.bigOctets} }

func (l *lab) big(s scale) work {
	box := bigBox(s)
	c := l.local([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
		return two(bigMessage(ctx, addr, box.user))
	})
	c[0], c[1] = l.checked(c[0], l.gateway, box, 1), l.checked(c[1], l.dovecot, box, 1)
	return work{name: "big", boxes: []mailbox{box}, contenders: c, rows: []row{
		{title: "big message, Maildir", unit: "MB/s", higher: true, peer: nameDovecot, ratio: 2},
		{title: "its first octet, Maildir", unit: "ms", metric: 1, peer: nameDovecot},
	}}
}

func stormBoxes(s scale) []mailbox {
	return mailboxes(s.stormUsers, mailbox{user: "storm", messages: 100, octets: meanOctets, sigma: 1})
}

func stormRows(where, peer string, ratio float64) []row {
	return []row{
		{title: "storm, " + where, unit: "sessions/s", higher: true, peer: peer, ratio: ratio},
		{title: "its 99th percentile, " + where, unit: "ms", metric: 1, peer: peer, ratio: 1},
	}
}

func (l *lab) storm(s scale) work {
	boxes := stormBoxes(s)
	return work{name: "storm", boxes: boxes, rows: stormRows("Maildir", nameDovecot, 3),
		contenders: l.local(boxes, func(ctx context.Context, addr string) ([]float64, error) {
			return two(storm(ctx, addr, boxes, s.stormClients, s.storm))
		})}
}

// courierIdle is what one idle session takes in courier-pop, in kB: the least
// that was seen of other servers.
const courierIdle = 276.

func (l *lab) idle(s scale) work {
	boxes := mailboxes(s.idles, mailbox{user: "idle", messages: 10, octets: meanOctets, sigma: 1})
	return holding("idle", boxes, boxes, amongMany, l.gateway, l.dovecot,
		row{title: "idle session, Maildir", unit: "kB", peer: nameDovecot, limit: courierIdle / 5, why: "a fifth of courier-pop"})
}

// largerIdle is sessions of 100 messages each.
func (l *lab) largerIdle(s scale) work {
	boxes := stormBoxes(s)
	return holding("idle-100", boxes, boxes, amongMany, l.gateway, l.dovecot,
		row{title: "idle session of 100 messages, Maildir", unit: "kB", peer: nameDovecot, limit: 64})
}

func (l *lab) idleTLS(s scale) work {
	boxes := stormBoxes(s)
	return holding("idle-tls", boxes, boxes, overTLS, l.gateway, l.dovecot,
		row{title: "the same over TLS", unit: "kB", peer: nameDovecot, limit: 128})
}

// large is one session of very many messages, whose listing is on disk. The
// IMAP server's own memory is no part of it.
func (l *lab) large(n int, overIMAP bool) work {
	first, box := pollBox(10), pollBox(n)
	name, where, peer, ours, theirs := "large", "Maildir", nameDovecot, l.gateway, l.dovecot
	if overIMAP {
		name, where, peer, ours, theirs = "imap-large", "IMAP", nameIMAPC, l.gatewayNear, l.imapcNear
	}
	w := holding(name, []mailbox{first, box}, []mailbox{box}, amongMany, ours, theirs,
		row{title: fmt.Sprintf("memory of a session of %s messages, %s", count(n), where), unit: "kB", peer: peer, limit: 6000})
	for i, c := range w.contenders {
		server := []*server{ours, theirs}[i]
		w.contenders[i] = onServer(c.name, server, []mailbox{box}, func(ctx context.Context, _ string) ([]float64, error) { return c.measure(ctx) })
		if overIMAP {
			w.contenders[i] = l.afterUpstream(w.contenders[i], []mailbox{box})
		}
	}
	return w
}

// holding is a work that holds sessions, after a poll of the first of boxes.
func holding(name string, boxes, sessions []mailbox, d dialer, ours, theirs *server, r row) work {
	of := func(name string, s *server) contender {
		return contender{name: name, measure: func(ctx context.Context) ([]float64, error) {
			return one(idle(ctx, s, boxes[0], sessions, d))
		}}
	}
	return work{name: name, boxes: boxes, turns: 3, rows: []row{r}, contenders: []contender{of(nameGateway, ours), of(r.peer, theirs)}}
}

func (l *lab) commands(s scale) work {
	box := pollBox(1000)
	return work{name: "commands", boxes: []mailbox{box},
		contenders: l.local([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
			return one(pipelined(ctx, addr, box.user, s.commands))
		}),
		rows: []row{{title: "pipelined NOOP, LIST n, UIDL n", unit: "commands/s", higher: true, peer: nameDovecot, ratio: 2}}}
}
