package gateway

import "time"

// Observer is told what happens in sessions, to count it. Sessions call it from
// their goroutines: it is safe for concurrent use, and does not wait. What
// happens more often than a few times in a session is in Totals. adapter is
// Account.AdapterName, listener the address.
type Observer interface {
	// Refused is told of a connection that got no session. reason is one of a
	// few fixed texts.
	Refused(listener, reason string)
	// Login is told of each attempt to log in.
	Login(LoginAttempt)
	// FirstOctet is told how long the store took for the first octets of a
	// message, from RETR on.
	FirstOctet(adapter string, took time.Duration)
	// Update is told of a removal of messages. err is nil if all were removed.
	Update(adapter string, took time.Duration, err error)
	// Ended is told of the end of a session. why is one of a few fixed texts.
	Ended(listener, why string, lasted time.Duration)
}

// LoginAttempt is an attempt to log in, successful or not.
type LoginAttempt struct {
	Mechanism string // of Mechanisms
	Adapter   string // Account.AdapterName; "" where it did not come so far
	// Took is the time of the checks and of opening the maildrop, and of the
	// client's answers where a mechanism asks; not that for which a refusal is
	// held back.
	Took      time.Duration
	Throttled bool  // it was not tried, since too many have failed
	GivenUp   bool  // the server shuts down, or the session was to end
	Err       error // nil for success; its code is CodeOf(Err)
}

// observer is Server.Observer, or one that forgets.
func (s *Server) observer() Observer {
	if s.Observer == nil {
		return unobserved{}
	}
	return s.Observer
}

type unobserved struct{}

func (unobserved) Refused(string, string)              {}
func (unobserved) Login(LoginAttempt)                  {}
func (unobserved) FirstOctet(string, time.Duration)    {}
func (unobserved) Update(string, time.Duration, error) {}
func (unobserved) Ended(string, string, time.Duration) {}

// StatsReporter is an Adapter that knows figures about itself. Report calls each
// once for every figure there is; it does not wait.
type StatsReporter interface {
	Report(each func(Stat))
}

// Stat is a figure about an adapter.
type Stat struct {
	Kind  StatKind
	Name  string // which of its kind: one of a few fixed words, such as "kept"
	Value uint64
}

// StatKind says what a Stat counts.
type StatKind int

const (
	// UpstreamConnections are the connections to another server that are there
	// now, by what is done with them: "used" by a session, "kept" for the next.
	UpstreamConnections StatKind = iota
	// UpstreamWaiting are the sessions that wait for a connection now, by what
	// they wait for.
	UpstreamWaiting
	// UpstreamLeftAlone are what another server has refused for a limit or a
	// failure, and is not asked for until a while has passed.
	UpstreamLeftAlone
	// CacheHits and CacheMisses are how often it was asked, since the start, for
	// what might have been remembered, by what that is: "connection", "listing",
	// "message".
	CacheHits
	CacheMisses
)
