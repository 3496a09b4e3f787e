package main

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// work is something that several contenders do in turns.
type work struct {
	name       string
	boxes      []mailbox
	contenders []contender // the first is pop3gw
	turns      int         // the most, where a turn takes long; 0: as asked for
	rows       []row
}

// contender is one that does a work. Its measure returns one value for each
// metric of the work.
type contender struct {
	name    string
	prepare func(context.Context) error // before the first turn
	measure func(context.Context) ([]float64, error)
}

// Names of contenders.
const (
	nameGateway = "pop3gw"
	nameDovecot = "Dovecot"
	nameIMAPC   = "imapc"
	nameRaw     = "UID FETCH 1:*"
	nameClient  = "client alone"
)

// row is one line of the table: pop3gw against a peer, by one metric of a work.
type row struct {
	title  string
	unit   string
	metric int
	higher bool    // more is better
	peer   string  // name of a contender
	ratio  float64 // the target: how many times better than the peer; 0 for none
	limit  float64 // the target instead: at most so much; 0 for none
	why    string  // where the target needs words
}

// scale says how much of everything there is.
type scale struct {
	polls, upstreamPolls            []int // messages in the maildrops that are polled
	first, upstreamFirst            int   // messages of a first count
	downloads, slowDownloads        int   // messages; the second for imapc far away
	downloadOctets, bigOctets       float64
	storm                           time.Duration
	stormUsers, stormClients, idles int
	commands                        int
}

var (
	full = scale{
		polls: []int{10, 1000, 10_000, 100_000}, upstreamPolls: []int{10, 1000, 10_000, 100_000},
		first: 100_000, upstreamFirst: 1000, downloads: 1000, slowDownloads: 100,
		downloadOctets: 50e3, bigOctets: 50e6, storm: 4 * time.Second, stormUsers: 200, stormClients: 50,
		idles: 1000, commands: 100_000,
	}
	short = scale{
		polls: []int{10, 1000}, upstreamPolls: []int{10, 1000},
		first: 2000, upstreamFirst: 100, downloads: 200, slowDownloads: 20,
		downloadOctets: 50e3, bigOctets: 5e6, storm: time.Second, stormUsers: 40, stormClients: 10,
		idles: 50, commands: 20_000,
	}
)

// farAway is how far the IMAP server is in the titles of works.
const farAway = "40 ms"

// meanOctets is the size of messages where it does not matter.
const meanOctets = 4096

// works are all of them, in the order of the table.
func (l *lab) works(s scale) []work {
	var all []work
	for _, n := range s.polls {
		all = append(all, l.poll(n))
	}
	all = append(all, l.firstCount(s.first))
	all = append(all, l.download(s, 1), l.download(s, 16), l.big(s), l.storm(s), l.idle(s), l.largerIdle(s), l.idleTLS(s), l.large(s.polls[len(s.polls)-1], false), l.commands(s))
	for _, n := range s.upstreamPolls {
		all = append(all, l.upstreamPoll(n))
	}
	for _, n := range s.upstreamPolls {
		all = append(all, l.farPoll(n))
	}
	all = append(all, l.farPollAnew(s.upstreamPolls[1]))
	most := s.upstreamPolls[len(s.upstreamPolls)-1]
	all = append(all, l.newMessage(most), l.large(most, true))
	all = append(all, l.upstreamDownload(s, 1), l.upstreamDownload(s, 16), l.farDownload(s), l.upstreamBig(s), l.upstreamStorm(s))
	// Last of all, since it forgets what polls have remembered.
	return append(all, l.farFirst(s.upstreamFirst))
}

func pollBox(n int) mailbox {
	return mailbox{user: fmt.Sprint("poll", n), messages: n, octets: meanOctets, sigma: 1}
}

// sessionsFor is how many polls make one turn: more where they are quick.
func sessionsFor(messages int) int { return max(3, min(100, 100_000/messages)) }

// onServer is a contender whose server is started, and warm by two polls of
// each box.
func onServer(name string, s *server, boxes []mailbox, measure func(ctx context.Context, addr string) ([]float64, error)) contender {
	return contender{name,
		func(ctx context.Context) error {
			if err := s.start(ctx); err != nil {
				return err
			}
			return warm(ctx, s.addr, boxes)
		},
		func(ctx context.Context) ([]float64, error) { return measure(ctx, s.addr) }}
}

func warm(ctx context.Context, addr string, boxes []mailbox) error {
	for _, b := range boxes {
		if _, err := polls(ctx, addr, b, 2); err != nil {
			return fmt.Errorf("%s: %w", b.user, err)
		}
	}
	return nil
}

// local is the contenders of a work over Maildirs.
func (l *lab) local(boxes []mailbox, measure func(ctx context.Context, addr string) ([]float64, error)) []contender {
	return []contender{
		onServer(nameGateway, l.gateway, boxes, measure),
		onServer(nameDovecot, l.dovecot, boxes, measure),
		{nameClient,
			func(ctx context.Context) error { return warm(ctx, l.canned.addr(), boxes) },
			func(ctx context.Context) ([]float64, error) { return measure(ctx, l.canned.addr()) }},
	}
}

// remote is the contenders of a work over IMAP at no distance.
func (l *lab) remote(boxes []mailbox, measure func(ctx context.Context, addr string) ([]float64, error)) []contender {
	return []contender{
		l.afterUpstream(onServer(nameGateway, l.gatewayNear, boxes, measure), boxes),
		l.afterUpstream(onServer(nameIMAPC, l.imapcNear, boxes, measure), boxes),
	}
}

// far is the contenders of a work over IMAP behind the delay. Dovecot's indexes
// are made at no distance, where that takes less than a minute and not an hour.
func (l *lab) far(boxes []mailbox, measure func(ctx context.Context, addr string) ([]float64, error)) []contender {
	return l.farBy(l.gatewayFar, boxes, measure)
}

// farBy is far with another gateway.
func (l *lab) farBy(gateway *server, boxes []mailbox, measure func(ctx context.Context, addr string) ([]float64, error)) []contender {
	imapc := onServer(nameIMAPC, l.imapcFar, boxes, measure)
	prepare := imapc.prepare
	imapc.prepare = func(ctx context.Context) error {
		if err := l.imapcNear.start(ctx); err != nil {
			return err
		}
		if err := warm(ctx, l.imapcNear.addr, boxes); err != nil {
			return err
		}
		return prepare(ctx)
	}
	return []contender{
		l.afterUpstream(onServer(nameGateway, gateway, boxes, measure), boxes),
		l.afterUpstream(imapc, boxes),
	}
}

// afterUpstream starts the IMAP server and has it count its messages first.
func (l *lab) afterUpstream(c contender, boxes []mailbox) contender {
	prepare := c.prepare
	c.prepare = func(ctx context.Context) error {
		if err := l.upstream.start(ctx); err != nil {
			return err
		}
		for _, b := range boxes {
			raw, err := examine(ctx, l.upstream.addr, b.user)
			if err != nil {
				return err
			}
			_, err = raw.command("UID FETCH 1:* (RFC822.SIZE)")
			raw.close()
			if err != nil {
				return err
			}
		}
		if prepare == nil {
			return nil
		}
		return prepare(ctx)
	}
	return c
}

// raw fetches all of a mailbox with one command and returns MB/s.
func (l *lab) raw(addr string, box mailbox) contender {
	return l.afterUpstream(contender{name: nameRaw, measure: func(ctx context.Context) ([]float64, error) {
		c, err := examine(ctx, addr, box.user)
		if err != nil {
			return nil, err
		}
		defer c.close()
		begin := time.Now()
		octets, err := c.command("UID FETCH 1:* (BODY.PEEK[])")
		return []float64{float64(octets) / 1e6 / time.Since(begin).Seconds()}, err
	}}, []mailbox{box})
}

// checked has a contender deliver its messages once with all octets compared,
// before the first turn.
func (l *lab) checked(c contender, s *server, box mailbox, n int) contender {
	prepare := c.prepare
	c.prepare = func(ctx context.Context) error {
		if err := prepare(ctx); err != nil {
			return err
		}
		session, err := dialer(alone).logIn(ctx, s.addr, box.user)
		if err != nil {
			return err
		}
		defer session.close()
		if err := checkDownload(session, l.mailOf(s, box), n); err != nil {
			return err
		}
		return session.quit()
	}
	return c
}

func one(v float64, err error) ([]float64, error) { return []float64{v}, err }

func two(v, w float64, err error) ([]float64, error) { return []float64{v, w}, err }

// turn measures a contender once. The client starts each with a clean heap.
func turn(ctx context.Context, c contender) ([]float64, error) {
	runtime.GC()
	values, err := c.measure(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return values, nil
}

// results are the values of each contender, by metric and turn.
type results map[string][][]float64

// run has the contenders of w take turns.
func (w work) run(ctx context.Context, turns int) (results, error) {
	if w.turns > 0 {
		turns = min(turns, w.turns)
	}
	for _, c := range w.contenders {
		if c.prepare == nil {
			continue
		}
		if err := c.prepare(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	got := make(results)
	for range turns {
		for _, c := range w.contenders {
			values, err := turn(ctx, c)
			if err != nil {
				return nil, err
			}
			if got[c.name] == nil {
				got[c.name] = make([][]float64, len(values))
			}
			for m, v := range values {
				got[c.name][m] = append(got[c.name][m], v)
			}
		}
	}
	return got, nil
}
