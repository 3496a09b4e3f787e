package imap

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"pop3gw/adapters/imap/link"
	"pop3gw/gateway"
)

// pause is for how long an account is left alone at its server, once that has
// refused it for a reason that passes: for first, and after each further refusal
// twice as long, up to most. The zero value is not at all.
type pause struct{ first, most time.Duration }

var (
	// For limits of use. Some last for a day (Gmail's daily quotas): polling
	// meanwhile prolongs them.
	longPause = pause{15 * time.Second, 15 * time.Minute}
	// For what is wrong with the server, or with a mailbox, for the moment.
	shortPause = pause{2 * time.Second, time.Minute}
)

const (
	// maxSuggestedPause bounds what a server can ask for.
	maxSuggestedPause = time.Hour
	// maxBackoffs bounds how many accounts are remembered.
	maxBackoffs = 10_000
)

// throttled is the diagnosis of a server's limits.
var throttled = diagnosis{
	code:   gateway.CodeSysTemp,
	text:   "mail server limits the use of this account, try again later",
	advice: "too many connections or commands for this user, or too much mail a day: poll less often, lower max_connections_per_user, or raise the server's limits",
	pause:  longPause,
}

// failing is the diagnosis of a server that has a failure.
var failing = diagnosis{
	code:   gateway.CodeSysTemp,
	text:   "mail server has a temporary failure, try again later",
	advice: "see the server's own log",
	pause:  shortPause,
}

// limitWords are those that servers use for limits, whatever the response code:
// some say OVERQUOTA where they mean their own bandwidth (Gmail), UNAVAILABLE
// (Dovecot) or nothing at all (Exchange).
var limitWords = []string{
	"too many", // simultaneous connections (Gmail), open connections (Cyrus)
	"maximum number of connections", "connection limit", "simultaneous connections", "concurrent connections",
	"limit reached", "limit exceeded",
	"bandwidth limit", "rate limit", "rate-limit", "frequency limit", "frequency limited", // Gmail, Yahoo, and others
	"throttl", "backoff time", // Exchange
	"lockdown in sector", // Gmail, of an account that was used too much
}

// failureWords are those of failures that pass. "Not connected" is Exchange, which
// has checked the password by then.
var failureWords = []string{
	"temporar", "unavailable", "try again later", "server error", "system error", "server busy", "system busy",
	"overload", "authenticated but not connected",
}

// pauseError is an error of a server after which it is left alone for a while.
type pauseError struct {
	pause
	suggested time.Duration // by the server; 0 is none
	err       error
}

func (e *pauseError) Error() string { return e.err.Error() }
func (e *pauseError) Unwrap() error { return e.err }

// isThrottled reports whether err is for a limit of the server.
func isThrottled(err error) bool {
	e, ok := errors.AsType[*pauseError](err)
	return ok && e.pause == longPause
}

var suggestion = regexp.MustCompile(`(?i)back-?off time: ([0-9]{1,9}) ?(milliseconds|ms|seconds|s)\b`)

// suggestedPause finds the time that Exchange suggests in its refusals.
func suggestedPause(err error) time.Duration {
	var text string
	if e, ok := errors.AsType[*imap.Error](err); ok {
		text = e.Text
	} else if e, ok := errors.AsType[*link.ByeError](err); ok {
		text = e.Text
	}
	m := suggestion.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	unit := time.Millisecond
	if strings.HasPrefix(strings.ToLower(m[2]), "s") {
		unit = time.Second
	}
	return min(time.Duration(n)*unit, maxSuggestedPause)
}

// backoffs are the accounts of a server that are left alone. The zero value is
// none; it is safe for concurrent use.
type backoffs struct {
	mu       sync.Mutex
	accounts map[string]backoff
}

type backoff struct {
	until  time.Time
	next   time.Duration // how long the next one is, but for chance
	answer gateway.Error // to whoever logs in until then
}

// check answers whoever comes to an account that is left alone now.
func (b *backoffs) check(account string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.accounts[account]
	left := time.Until(o.until)
	if !ok || left <= 0 {
		return nil
	}
	answer := o.answer
	answer.Text = strings.TrimSuffix(answer.Text, "later") + "in " + inWords(left)
	answer.Err = fmt.Errorf("the server is not asked about this account for another %v, since it refused a while ago", left.Round(time.Second))
	return &answer
}

// inWords is d in words for a client, rounded up.
func inWords(d time.Duration) string {
	if d > 90*time.Second {
		return fmt.Sprintf("%d minutes", (d+time.Minute-1)/time.Minute)
	}
	if n := (d + time.Second - 1) / time.Second; n > 1 {
		return fmt.Sprintf("%d seconds", n)
	}
	return "a second"
}

// note leaves the account alone for a while if err asks for it, and returns for how
// long; 0 is not at all. What many accounts were refused for together is not tried
// again together: that is left to chance.
func (b *backoffs) note(account string, err error) time.Duration {
	p, ok := errors.AsType[*pauseError](err)
	if !ok {
		return 0
	}
	answer, ok := errors.AsType[*gateway.Error](err)
	if !ok {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.accounts[account]
	if left := time.Until(o.until); left > 0 { // of sessions that began together
		return 0
	}
	d := min(max(o.next, p.first), p.most)
	o.next = min(2*d, p.most)
	d += time.Duration((rand.Float64() - 0.5) / 2 * float64(d)) // a quarter more or less
	d = max(d, p.suggested)
	o.until = time.Now().Add(d)
	o.answer = gateway.Error{Code: answer.Code, Text: answer.Text}
	if b.accounts == nil {
		b.accounts = make(map[string]backoff)
	}
	if _, known := b.accounts[account]; !known && len(b.accounts) >= maxBackoffs {
		b.dropFirst()
	}
	b.accounts[account] = o
	return d
}

// dropFirst forgets the one that is over first, or has been for the longest time.
func (b *backoffs) dropFirst() {
	first, until := "", time.Time{}
	for account, o := range b.accounts {
		if until.IsZero() || o.until.Before(until) {
			first, until = account, o.until
		}
	}
	delete(b.accounts, first)
}

// forget notes that the server lets the account in.
func (b *backoffs) forget(account string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.accounts, account)
}

// active is how many accounts are left alone now.
func (b *backoffs) active() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.accounts {
		if time.Now().Before(o.until) {
			n++
		}
	}
	return n
}

// leftAlone answers a login to an account that is left alone now.
func (d *maildrop) leftAlone() error {
	if err := d.adapter.server.backoffs.check(d.account); err != nil {
		return err
	}
	return d.adapter.server.backoffs.check(d.attempt())
}

// attempt names the account together with the password. What becomes of a password
// that nobody has checked is no matter of the account's owner, who has another.
func (d *maildrop) attempt() string { return d.account + "\x00" + string(d.login.proof[:]) }

// heed leaves d's account alone for a while if err, which it returns, asks for it.
func (d *maildrop) heed(err error) error {
	key := d.account
	if !d.verified && d.login.source == fromClient {
		key = d.attempt()
	}
	if pause := d.adapter.server.backoffs.note(key, err); pause > 0 {
		d.log.Warn("mail server refuses for now, leaving the account alone for a while",
			"server", d.adapter.options.Address, "account", d.account, "pause", pause.Round(time.Second))
	}
	return err
}

// letIn notes that the server has opened the maildrop.
func (d *maildrop) letIn() {
	d.adapter.server.backoffs.forget(d.account)
	d.adapter.server.backoffs.forget(d.attempt())
}

// heedLimits is heed in the middle of a session, where a failure may be of one
// message alone.
func (d *maildrop) heedLimits(err error) error {
	if isThrottled(err) {
		return d.heed(err)
	}
	return err
}
