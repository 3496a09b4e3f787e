package admin

import (
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pop3gw/gateway"
)

// Values of the label result of logins.
const (
	resultOK          = "ok"
	resultRefused     = "refused"     // wrong name or password
	resultThrottled   = "throttled"   // too many were refused before
	resultInUse       = "in_use"      // another session has the maildrop
	resultUnavailable = "unavailable" // the store is down or slow
	resultUnusable    = "unusable"    // an operator must act
	resultGivenUp     = "given_up"    // the gateway shut down, or the session was to end
)

// metrics are what Prometheus gets. No label has values that clients choose: they
// are of the configuration, or of a list in the program.
type metrics struct {
	registry *prometheus.Registry

	refused    *prometheus.CounterVec
	ended      *prometheus.CounterVec
	logins     *prometheus.CounterVec
	loginTime  *prometheus.HistogramVec
	firstOctet *prometheus.HistogramVec
	update     *prometheus.HistogramVec
	lasted     prometheus.Histogram

	accepted, rejected, failed atomic.Uint64 // logins, for rates
}

// Seconds, from what a local disk takes to what clients wait.
var (
	waits    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 180}
	lifespan = []float64{.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600}
)

func newMetrics(o Options, h *health) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pop3gw_connections_refused_total",
			Help: "Connections that got no session, by listener and reason."}, []string{"listener", "reason"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pop3gw_sessions_ended_total",
			Help: "Sessions that ended, by reason; as the log's key ended."}, []string{"reason"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pop3gw_logins_total",
			Help: "Attempts to log in, by mechanism, result and adapter (empty where it did not come so far)."}, []string{"mechanism", "result", "adapter"}),
		loginTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pop3gw_login_duration_seconds",
			Help: "Time for checking a login and opening the maildrop, by result and adapter.", Buckets: waits}, []string{"result", "adapter"}),
		firstOctet: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pop3gw_retr_first_octet_seconds",
			Help: "Time from RETR to the first octets of the message, by adapter.", Buckets: waits}, []string{"adapter"}),
		update: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pop3gw_update_duration_seconds",
			Help: "Time for removing messages at QUIT, by result and adapter.", Buckets: waits}, []string{"result", "adapter"}),
		lasted: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pop3gw_session_duration_seconds",
			Help: "How long sessions lasted.", Buckets: lifespan}),
	}
	m.registry.MustRegister(m.refused, m.ended, m.logins, m.loginTime, m.firstOctet, m.update, m.lasted,
		newCollector(o, h), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pop3gw_build_info", Help: "Always 1; its labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": o.Gateway.Version, "goversion": runtime.Version()}})
	info.Set(1)
	m.registry.MustRegister(info)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: replyTimeout / 2, EnableOpenMetrics: true,
		ErrorHandling: promhttp.ContinueOnError})
}

// Refused implements gateway.Observer.
func (m *metrics) Refused(listener, reason string) { m.refused.WithLabelValues(listener, reason).Inc() }

// Login implements gateway.Observer.
func (m *metrics) Login(l gateway.LoginAttempt) {
	result := resultOf(l)
	m.logins.WithLabelValues(l.Mechanism, result, l.Adapter).Inc()
	m.loginTime.WithLabelValues(result, l.Adapter).Observe(l.Took.Seconds())
	switch result {
	case resultOK:
		m.accepted.Add(1)
	case resultRefused, resultThrottled:
		m.rejected.Add(1)
	default:
		m.failed.Add(1)
	}
}

func resultOf(l gateway.LoginAttempt) string {
	switch code := gateway.CodeOf(l.Err); {
	case l.Err == nil:
		return resultOK
	case code == gateway.CodeAuth:
		return resultRefused
	case code == gateway.CodeInUse:
		return resultInUse
	case code == gateway.CodeSysPerm:
		return resultUnusable
	case l.Throttled:
		return resultThrottled
	case l.GivenUp:
		return resultGivenUp
	}
	return resultUnavailable
}

// FirstOctet implements gateway.Observer.
func (m *metrics) FirstOctet(adapter string, took time.Duration) {
	m.firstOctet.WithLabelValues(adapter).Observe(took.Seconds())
}

// Update implements gateway.Observer.
func (m *metrics) Update(adapter string, took time.Duration, err error) {
	result := resultOK
	if err != nil {
		result = "failed"
	}
	m.update.WithLabelValues(result, adapter).Observe(took.Seconds())
}

// Ended implements gateway.Observer.
func (m *metrics) Ended(_, why string, lasted time.Duration) {
	m.ended.WithLabelValues(why).Inc()
	m.lasted.Observe(lasted.Seconds())
}
