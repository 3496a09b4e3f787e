// Package conformance judges a POP3 server by its replies alone. It knows the
// server's address, an account and a way to fill the account's maildrop, and
// holds several hundred checks taken from the RFCs:
//
//	1939 POP3            2449 CAPA, response codes, pipelining
//	2595 STLS            8314 TLS from the first octet
//	5034 AUTH            4616 the PLAIN mechanism
//	3206 [AUTH], [SYS/*] 6856 UTF8 and LANG
//
// A check is one sentence that is true of a conforming server. Its level says
// how much it matters: MUST is a requirement of the RFC, or a loss of mail or of
// the client's step with the server; SHOULD is what an RFC recommends; GOOD is
// what the RFCs leave open and clients depend on.
package conformance

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Level is the weight of a check.
type Level string

const (
	MUST   Level = "MUST"
	SHOULD Level = "SHOULD"
	GOOD   Level = "GOOD"
)

// Result is the outcome of one check.
type Result struct {
	Scenario string // the function that made the check
	Name     string // the sentence that should be true
	RFC      string // "1939 §5"
	Level    Level
	OK       bool
	Detail   string // of a failed check: what was sent and received last
}

// Report is the outcome of a run, in the order of the checks.
type Report []Result

// Failed returns the failed checks of a level.
func (r Report) Failed(level Level) Report {
	var failed Report
	for _, result := range r {
		if !result.OK && result.Level == level {
			failed = append(failed, result)
		}
	}
	return failed
}

// Failures returns all failed checks, the gravest first.
func (r Report) Failures() Report {
	return slices.Concat(r.Failed(MUST), r.Failed(SHOULD), r.Failed(GOOD))
}

// Write prints every failed check with what was sent and received, then the
// totals of each level.
func (r Report) Write(w io.Writer) error {
	for _, f := range r.Failures() {
		fmt.Fprintf(w, "%-6s RFC %-8s %s: %s\n", f.Level, f.RFC, f.Scenario, f.Name)
		for line := range strings.Lines(f.Detail) {
			fmt.Fprintf(w, "           %s\n", strings.TrimRight(line, "\n"))
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "level\tchecks\tfailed\t")
	for _, level := range []Level{MUST, SHOULD, GOOD} {
		all := 0
		for _, result := range r {
			if result.Level == level {
				all++
			}
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t\n", level, all, len(r.Failed(level)))
	}
	fmt.Fprintf(table, "all\t%d\t%d\t\n", len(r), len(r.Failures()))
	return table.Flush()
}

// WriteAll prints one line for every check, passed or failed.
func (r Report) WriteAll(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, result := range r {
		outcome := "ok"
		if !result.OK {
			outcome = "FAILED"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", outcome, result.Level, result.RFC, result.Scenario, result.Name)
	}
	return table.Flush()
}

// scenarios are the parts of the suite, in the order of a session's life.
// Each stands alone: it fills the maildrop itself.
var scenarios = []struct {
	name string
	run  func(*run)
}{
	{"greeting", greeting},
	{"states", states},
	{"command lines", commandLines},
	{"extra arguments", extraArguments},
	{"overlong lines", overlongLines},
	{"echo", echo},
	{"many errors", manyErrors},
	{"numbers", numbers},
	{"USER and PASS", userPass},
	{"odd passwords", oddPasswords},
	{"APOP", apop},
	{"AUTH", auth},
	{"AUTH PLAIN", authPlain},
	{"AUTH LOGIN", authLogin},
	{"CAPA", capabilities},
	{"listings", listings},
	{"empty maildrop", emptyMaildrop},
	{"UIDL", uniqueIDs},
	{"octets", octets},
	{"forged replies", forgedReplies},
	{"TOP", top},
	{"DELE", deletion},
	{"UPDATE", update},
	{"dropped connections", drops},
	{"changes by others", changesByOthers},
	{"lock", lock},
	{"pipelining", pipelining},
	{"STLS", stls},
	{"TLS", implicitTLS},
	{"cleartext refused", cleartextRefused},
	{"UTF8", utf8Mode},
	{"LANG", language},
	{"many messages", manyMessages},
}

// Run performs every scenario whose name contains only ("" for all) against
// target. An error means that the maildrop could not be filled or the server not
// reached; whatever the server gets wrong is in the report.
func Run(target Target, only string) (Report, error) {
	if target.Progress == nil {
		target.Progress = func(string, ...any) {}
	}
	r := &run{target: target, seen: make(map[string]bool)}
	for _, s := range scenarios {
		if strings.Contains(s.name, only) {
			r.scenario = s.name
			begin, made := time.Now(), len(r.report)
			if err := r.perform(s.run); err != nil {
				return r.report, fmt.Errorf("%s: %w", s.name, err)
			}
			target.Progress("%s: %d checks in %v", s.name, len(r.report)-made, time.Since(begin).Round(time.Millisecond))
		}
	}
	r.scenario = "every reply"
	r.judgeReplies()
	return r.report, nil
}

// run is one pass of the suite over a target.
type run struct {
	target   Target
	scenario string
	report   Report
	seen     map[string]bool // names in use, since a name identifies a check
	conns    []*conn         // opened by the scenario in progress
	replies  monitor
}

// lost ends a scenario whose session cannot go on; unable ends the suite.
type (
	lost   struct{ detail string }
	unable struct{ err error }
)

// perform runs one scenario and closes the connections it left open. A
// session that was lost is a failed check: the checks after it were not made.
func (r *run) perform(scenario func(*run)) (err error) {
	defer func() {
		r.leave()
		switch p := recover().(type) {
		case nil:
		case lost:
			r.record(MUST, "1939 §3", "every session of the scenario can be finished", false, p.detail)
		case unable:
			err = p.err
		default:
			panic(p)
		}
	}()
	scenario(r)
	return nil
}

func (r *run) record(level Level, rfc, name string, ok bool, detail string) {
	key := r.scenario + ": " + name
	if r.seen[key] {
		panic("two checks are called " + key)
	}
	r.seen[key] = true
	if ok {
		detail = ""
	}
	r.report = append(r.report, Result{r.scenario, name, rfc, level, ok, detail})
}

// must, should and good record a check. c is the session whose last lines
// explain a failure, and may be nil; note is added to them.
func (r *run) must(rfc, name string, ok bool, c *conn, note ...any) {
	r.record(MUST, rfc, name, ok, explain(c, note))
}

func (r *run) should(rfc, name string, ok bool, c *conn, note ...any) {
	r.record(SHOULD, rfc, name, ok, explain(c, note))
}

func (r *run) good(rfc, name string, ok bool, c *conn, note ...any) {
	r.record(GOOD, rfc, name, ok, explain(c, note))
}

func explain(c *conn, note []any) string {
	var lines []string
	if c != nil {
		lines = append(lines, c.tail()...)
	}
	if len(note) > 0 {
		lines = append(lines, fmt.Sprint(note...))
	}
	return strings.Join(lines, "\n")
}

// need ends the suite when the means of testing fail.
func need(err error) {
	if err != nil {
		panic(unable{err})
	}
}

// sorted returns the keys of m in order.
func sorted[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
