package admin

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"

	"pop3gw/gateway"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	sessionsDesc    = desc("pop3gw_sessions", "Sessions there are now, by listener and state.", "listener", "state")
	begunDesc       = desc("pop3gw_sessions_started_total", "Sessions that began, by listener.", "listener")
	commandsDesc    = desc("pop3gw_commands_total", "Commands of clients, by keyword; \"other\" is what is none.", "command")
	messagesDesc    = desc("pop3gw_messages_total", "Messages sent whole (retr), sent in part (top) or removed (dele).", "operation")
	receivedDesc    = desc("pop3gw_received_bytes_total", "Octets from clients, below TLS.")
	sentDesc        = desc("pop3gw_sent_bytes_total", "Octets to clients, below TLS.")
	maxSessionsDesc = desc("pop3gw_sessions_limit", "How many sessions there may be, max_connections in [limits].")
	upstreamDesc    = desc("pop3gw_upstream_connections", "Connections to mail servers there are now, by adapter and what is done with them.", "adapter", "state")
	waitingDesc     = desc("pop3gw_upstream_waiting_sessions", "Sessions that wait for a connection to a mail server, by adapter and what they wait for.", "adapter", "queue")
	aloneDesc       = desc("pop3gw_upstream_left_alone", "What a mail server has refused for a limit or a failure and is not asked for until a while has passed, by adapter.", "adapter", "what")
	cacheDesc       = desc("pop3gw_cache_requests_total", "What might have been remembered and was asked for, by adapter (empty for passwords), what it is, and whether it was there.", "adapter", "cache", "result")
	reachedDesc     = desc("pop3gw_adapter_up", "Whether the adapter's store was reached when it was last tried, within about a minute.", "adapter")
	expiryDesc      = desc("pop3gw_certificate_expiry_timestamp_seconds", "Until when a certificate is good, by file.", "certificate")
	gaugesOfStats   = map[gateway.StatKind]*prometheus.Desc{gateway.UpstreamConnections: upstreamDesc, gateway.UpstreamWaiting: waitingDesc, gateway.UpstreamLeftAlone: aloneDesc}
)

// collector has the metrics that are counted elsewhere, when they are asked for.
type collector struct {
	o Options
	h *health
}

func newCollector(o Options, h *health) prometheus.Collector { return &collector{o, h} }

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sessionsDesc, begunDesc, commandsDesc, messagesDesc, receivedDesc, sentDesc, maxSessionsDesc,
		upstreamDesc, waitingDesc, aloneDesc, cacheDesc, reachedDesc, expiryDesc} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, l := range c.o.Gateway.Listeners() {
		for state, n := range l.Sessions {
			gauge(sessionsDesc, float64(n), l.Address, gateway.State(state).String())
		}
		counter(begunDesc, l.Begun, l.Address)
	}
	gauge(maxSessionsDesc, float64(c.o.maxSessions()))
	t := c.o.Gateway.Totals()
	for command, n := range t.Commands {
		counter(commandsDesc, n, command)
	}
	counter(messagesDesc, t.Retrieved, "retr")
	counter(messagesDesc, t.Topped, "top")
	counter(messagesDesc, t.Removed, "dele")
	counter(receivedDesc, t.Received)
	counter(sentDesc, t.Sent)
	for _, a := range c.o.Adapters() {
		for _, stat := range statsOf(a.Adapter) {
			switch stat.Kind {
			case gateway.CacheHits:
				counter(cacheDesc, stat.Value, a.Name, stat.Name, "hit")
			case gateway.CacheMisses:
				counter(cacheDesc, stat.Value, a.Name, stat.Name, "miss")
			default:
				gauge(gaugesOfStats[stat.Kind], float64(stat.Value), a.Name, stat.Name)
			}
		}
	}
	if c.o.PasswordCache != nil {
		hits, misses := c.o.PasswordCache()
		counter(cacheDesc, hits, "", "password", "hit")
		counter(cacheDesc, misses, "", "password", "miss")
	}
	for _, f := range c.h.last(scrapeLife) {
		switch {
		case f.Known && f.Err == nil:
			gauge(reachedDesc, 1, f.Name)
		case f.Known:
			gauge(reachedDesc, 0, f.Name)
		}
	}
	for _, cert := range c.o.Certificates() {
		gauge(expiryDesc, float64(cert.NotAfter.Unix()), cert.File)
	}
}

// maxSessions is how many sessions there may be.
func (o Options) maxSessions() int {
	limits := o.Gateway.Limits
	if o.Limits != nil {
		limits = o.Limits()
	}
	return cmp.Or(limits.MaxConnections, gateway.DefaultLimits().MaxConnections)
}

func statsOf(a gateway.Adapter) (stats []gateway.Stat) {
	if reporter, ok := a.(gateway.StatsReporter); ok {
		reporter.Report(func(s gateway.Stat) { stats = append(stats, s) })
	}
	return stats
}
