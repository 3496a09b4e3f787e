package admin

import (
	"context"
	"sync"
	"time"

	"pop3gw/gateway"
)

const (
	samplePeriod = 5 * time.Second
	maxSamples   = 15*60/5 + 1 // of the last quarter of an hour
	minuteSpan   = time.Minute
)

// rates remembers the last quarter of an hour, for the page: whoever has no
// Prometheus should see it too.
type rates struct {
	gateway *gateway.Server
	metrics *metrics

	mu      sync.Mutex
	samples []sample // the oldest first
}

// sample is what was counted up to a moment.
type sample struct {
	at                         time.Time
	sessions                   int64 // there then
	begun                      uint64
	accepted, rejected, failed uint64
	commands, messages         uint64
	received, sent             uint64
}

func newRates(g *gateway.Server, m *metrics) *rates {
	r := &rates{gateway: g, metrics: m}
	r.take()
	return r
}

// run takes a sample each period, until ctx ends.
func (r *rates) run(ctx context.Context) {
	ticker := time.NewTicker(samplePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.take()
		}
	}
}

func (r *rates) take() {
	s := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) == maxSamples {
		r.samples = append(r.samples[:0], r.samples[1:]...)
	}
	r.samples = append(r.samples, s)
}

func (r *rates) now() sample {
	s := sample{at: time.Now(), accepted: r.metrics.accepted.Load(), rejected: r.metrics.rejected.Load(), failed: r.metrics.failed.Load()}
	for _, l := range r.gateway.Listeners() {
		for _, n := range l.Sessions {
			s.sessions += n
		}
		s.begun += l.Begun
	}
	t := r.gateway.Totals()
	for _, n := range t.Commands {
		s.commands += n
	}
	s.messages, s.received, s.sent = t.Retrieved, t.Received, t.Sent
	return s
}

// history is what the page shows.
type history struct {
	over                                           time.Duration // of the figures that follow, each for a second
	accepted, rejected, failed, commands, messages float64
	received, sent                                 float64
	sessions                                       []float64 // of each sample
	sentEach, acceptedEach, rejectedEach           []float64 // of each period, for a second
	messagesEach, commandsEach                     []float64
}

func (r *rates) history() history {
	now := r.now()
	r.mu.Lock()
	samples := append([]sample(nil), r.samples...)
	r.mu.Unlock()
	var h history
	from := samples[0]
	for i, s := range samples {
		if now.at.Sub(s.at) > minuteSpan {
			from = s
		}
		h.sessions = append(h.sessions, float64(s.sessions))
		if i > 0 {
			before, seconds := samples[i-1], s.at.Sub(samples[i-1].at).Seconds()
			h.sentEach = append(h.sentEach, perSecond(before.sent, s.sent, seconds))
			h.acceptedEach = append(h.acceptedEach, perSecond(before.accepted, s.accepted, seconds))
			h.rejectedEach = append(h.rejectedEach, perSecond(before.rejected, s.rejected, seconds))
			h.messagesEach = append(h.messagesEach, perSecond(before.messages, s.messages, seconds))
			h.commandsEach = append(h.commandsEach, perSecond(before.commands, s.commands, seconds))
		}
	}
	h.sessions = append(h.sessions, float64(now.sessions))
	h.over = now.at.Sub(from.at)
	seconds := max(h.over.Seconds(), 1)
	h.accepted = perSecond(from.accepted, now.accepted, seconds)
	h.rejected = perSecond(from.rejected, now.rejected, seconds)
	h.failed = perSecond(from.failed, now.failed, seconds)
	h.commands = perSecond(from.commands, now.commands, seconds)
	h.messages = perSecond(from.messages, now.messages, seconds)
	h.received = perSecond(from.received, now.received, seconds)
	h.sent = perSecond(from.sent, now.sent, seconds)
	return h
}

func perSecond(before, after uint64, seconds float64) float64 {
	if after < before || seconds <= 0 {
		return 0
	}
	return float64(after-before) / seconds
}
