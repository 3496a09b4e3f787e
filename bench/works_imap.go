package main

import (
	"context"
	"fmt"
	"time"
)

func (l *lab) upstreamPoll(n int) work {
	box := pollBox(n)
	r := row{title: pollTitle(n, "IMAP"), unit: "ms", peer: nameIMAPC}
	if n == 1000 {
		r.ratio = 4
	}
	return work{name: fmt.Sprint("imap-poll-", n), boxes: []mailbox{box}, rows: []row{r},
		contenders: l.remote([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
			return one(polls(ctx, addr, box, sessionsFor(n)))
		})}
}

// settle is how long after a session its last octets may be under way.
const settle = 4 * oneWay

func (l *lab) farPoll(n int) work {
	box := pollBox(n)
	where := fmt.Sprintf("IMAP at %s", farAway)
	rows := []row{
		{title: pollTitle(n, where), unit: "ms", peer: nameIMAPC},
		{title: fmt.Sprintf("octets from the server, %s messages", count(n)), unit: "octets", metric: 1, peer: nameIMAPC},
	}
	if n == 100_000 {
		rows[0].ratio, rows[1].limit, rows[1].why = 5, 2000, "cost grows with the change"
	}
	const sessions = 3
	return work{name: fmt.Sprint("imap-far-poll-", n), boxes: []mailbox{box}, rows: rows,
		contenders: l.far([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
			time.Sleep(settle)
			before := l.path.received.Load()
			took, err := polls(ctx, addr, box, sessions)
			time.Sleep(settle)
			return two(took, float64(l.path.received.Load()-before)/sessions, err)
		})}
}

// farPollAnew is farPoll by a gateway that keeps no connection after a session.
func (l *lab) farPollAnew(n int) work {
	box := pollBox(n)
	r := row{title: pollTitle(n, "IMAP at "+farAway) + ", no connection kept", unit: "ms", peer: nameIMAPC}
	return work{name: fmt.Sprint("imap-far-anew-", n), boxes: []mailbox{box}, rows: []row{r},
		contenders: l.farBy(l.gatewayAnew, []mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
			return one(polls(ctx, addr, box, 3))
		})}
}

// newMessage polls a maildrop that has one message more than at the poll before.
func (l *lab) newMessage(n int) work {
	box := mailbox{user: fmt.Sprint("grown", n), messages: n, octets: meanOctets, sigma: 1}
	where := fmt.Sprintf("of %s messages with a new one, IMAP at %s", count(n), farAway)
	rows := []row{
		{title: "poll " + where, unit: "ms", peer: nameIMAPC},
		{title: "octets from the server for it", unit: "octets", metric: 1, peer: nameIMAPC, limit: 3000, why: "cost grows with the change"},
	}
	grown := box
	return work{name: "imap-far-new", boxes: []mailbox{box}, turns: 5, rows: rows,
		contenders: l.far([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
			if _, err := polls(ctx, addr, grown, 1); err != nil { // the other contender's message
				return nil, err
			}
			if err := deliver(l.mailOf(l.upstream, box), grown.messages); err != nil {
				return nil, err
			}
			grown.messages++
			time.Sleep(settle)
			before := l.path.received.Load()
			took, err := polls(ctx, addr, grown, 1)
			time.Sleep(settle)
			return two(took, float64(l.path.received.Load()-before), err)
		})}
}

// downloadRows compares pop3gw with imapc and with the server itself.
func downloadRows(words string, ratio, ofRaw float64) []row {
	return []row{
		{title: "download, " + words, unit: "MB/s", higher: true, peer: nameIMAPC, ratio: ratio},
		{title: "the same, against the server itself", unit: "MB/s", higher: true, peer: nameRaw, ratio: ofRaw},
	}
}

func (l *lab) upstreamDownload(s scale, window int) work {
	box := downloadBox(s)
	suffix, words := inFlight(window)
	rows := downloadRows(words+", IMAP", 0, 0)
	if window == 1 {
		rows = downloadRows(words+", IMAP", 3, 0.7)
	}
	c := l.remote([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
		return one(download(ctx, addr, box.user, box.messages, window))
	})
	c[0], c[1] = l.checked(c[0], l.gatewayNear, box, box.messages), l.checked(c[1], l.imapcNear, box, box.messages)
	return work{name: "imap-download" + suffix, boxes: []mailbox{box}, rows: rows, contenders: append(c, l.raw(l.upstream.addr, box))}
}

// farDownload gives imapc fewer messages: each takes it a round trip, and its
// rate does not depend on how many there are.
func (l *lab) farDownload(s scale) work {
	box := downloadBox(s)
	get := func(n int) func(context.Context, string) ([]float64, error) {
		return func(ctx context.Context, addr string) ([]float64, error) {
			return one(download(ctx, addr, box.user, n, 1))
		}
	}
	c := []contender{l.far([]mailbox{box}, get(box.messages))[0], l.far([]mailbox{box}, get(s.slowDownloads))[1]}
	c[0] = l.checked(c[0], l.gatewayFar, box, box.messages)
	return work{name: "imap-far-download", boxes: []mailbox{box}, turns: 5, contenders: append(c, l.raw(l.path.addr(), box)),
		rows: downloadRows(fmt.Sprintf("one by one, IMAP at %s", farAway), 100, 0.6)}
}

func (l *lab) upstreamBig(s scale) work {
	box := bigBox(s)
	c := l.remote([]mailbox{box}, func(ctx context.Context, addr string) ([]float64, error) {
		return two(bigMessage(ctx, addr, box.user))
	})
	c[0], c[1] = l.checked(c[0], l.gatewayNear, box, 1), l.checked(c[1], l.imapcNear, box, 1)
	return work{name: "imap-big", boxes: []mailbox{box}, contenders: append(c, l.raw(l.upstream.addr, box)), rows: []row{
		{title: "big message, IMAP", unit: "MB/s", higher: true, peer: nameIMAPC, ratio: 8},
		{title: "the same, against the server itself", unit: "MB/s", higher: true, peer: nameRaw},
		{title: "its first octet, IMAP", unit: "ms", metric: 1, peer: nameIMAPC, ratio: 10},
	}}
}

func (l *lab) upstreamStorm(s scale) work {
	boxes := stormBoxes(s)
	return work{name: "imap-storm", boxes: boxes, rows: stormRows("IMAP", nameIMAPC, 4),
		contenders: l.remote(boxes, func(ctx context.Context, addr string) ([]float64, error) {
			return two(storm(ctx, addr, boxes, s.stormClients, s.storm))
		})}
}

func (l *lab) farFirst(n int) work {
	box := mailbox{user: "imapfirst", messages: n, octets: meanOctets, sigma: 1}
	forgetful := func(name string, s *server) contender {
		return l.afterUpstream(contender{name: name, measure: func(ctx context.Context) ([]float64, error) {
			if err := s.cold(ctx); err != nil {
				return nil, err
			}
			return one(polls(ctx, s.addr, box, 1))
		}}, []mailbox{box})
	}
	r := row{title: fmt.Sprintf("first poll of %s messages, IMAP at %s", count(n), farAway), unit: "ms", peer: nameIMAPC}
	if n == full.upstreamFirst { // a ratio that grows with the number
		r.ratio = 150
	}
	return work{name: "imap-far-first", boxes: []mailbox{box}, turns: 3, rows: []row{r},
		contenders: []contender{forgetful(nameGateway, l.gatewayFar), forgetful(nameIMAPC, l.imapcFar)}}
}
