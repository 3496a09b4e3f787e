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
func sessionsFor(messages int) int { return max(3, min(40, 100_000/messages)) }

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
