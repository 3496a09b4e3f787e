package admin

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pop3gw/gateway"
)

// known are the names of all metrics as queries know them, with their labels.
func known(t *testing.T) map[string][]string {
	t.Helper()
	r := newRig(t, Options{})
	m := r.admin.metrics
	m.Refused("l", "r") // whatever has no value yet would not be there
	m.Login(gateway.LoginAttempt{})
	m.FirstOctet("a", time.Second)
	m.Update("a", time.Second, nil)
	m.Ended("l", "quit", time.Second)
	r.admin.health.look(context.Background(), time.Minute)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string][]string)
	for _, f := range families {
		var labels []string
		for _, pair := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		if f.GetMetric()[0].GetHistogram() == nil {
			names[f.GetName()] = labels
			continue
		}
		names[f.GetName()+"_bucket"] = append(labels, "le")
		names[f.GetName()+"_count"] = labels
		names[f.GetName()+"_sum"] = labels
	}
	return names
}

var (
	metricName = regexp.MustCompile(`\b(?:pop3gw|go|process|up)(?:_[a-z_]+)?\b`)
	selector   = regexp.MustCompile(`([a-z0-9_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!=|!~|=)\s*"[^"]*"`)
	grouping   = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	quoted     = regexp.MustCompile(`"[^"]*"`)
)

// checkQuery reports names in a query that no metric of names has.
func checkQuery(t *testing.T, query string, names map[string][]string) {
	t.Helper()
	var labels []string // of all metrics in the query, and of what Prometheus adds
	for _, name := range metricName.FindAllString(quoted.ReplaceAllString(query, ""), -1) {
		if name == "up" {
			continue
		}
		l, ok := names[name]
		if !ok {
			t.Errorf("there is no metric %s, as in %s", name, query)
		}
		labels = append(labels, l...)
	}
	allowed := append(labels, "job", "instance")
	for _, m := range selector.FindAllStringSubmatch(query, -1) {
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(append(slices.Clone(names[m[1]]), "job", "instance"), label[1]) {
				t.Errorf("%s has no label %s, as in %s", m[1], label[1], query)
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(m[1], ", ") {
			if !slices.Contains(allowed, label) {
				t.Errorf("there is no label %s, as in %s", label, query)
			}
		}
	}
}

func readPackaging(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every metric that the dashboard names exists, and every one of ours is on it.
func TestDashboard(t *testing.T) {
	var dashboard struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, LegendFormat, RefID string }
		}
	}
	text := readPackaging(t, "packaging/grafana/pop3gw.json")
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	names := known(t)
	var ids []int
	queries := ""
	for _, p := range dashboard.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids = append(ids, p.ID)
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is out of the grid", p.Title)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkQuery(t, target.Expr, names)
			queries += target.Expr + "\n"
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if m[1] != "instance" && !strings.Contains(target.Expr, m[1]) {
					t.Errorf("%s: the legend has %s, the query does not", p.Title, m[1])
				}
			}
		}
	}
	for name := range names {
		base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "pop3gw_") && !strings.Contains(queries, base) {
			t.Errorf("%s is not on the dashboard", name)
		}
	}
	for _, m := range regexp.MustCompile(`label_values\((\w+)`).FindAllStringSubmatch(text, -1) {
		if names[m[1]] == nil {
			t.Errorf("a variable asks for %s", m[1])
		}
	}
}

func TestAlerts(t *testing.T) {
	names := known(t)
	text := readPackaging(t, "packaging/prometheus/pop3gw.rules.yml")
	rules := regexp.MustCompile(`(?s)- alert: (\w+)\n\s+expr: (.*?)\n\s+(?:for|labels):`).FindAllStringSubmatch(text, -1)
	if len(rules) < 10 || len(rules) != strings.Count(text, "- alert:") {
		t.Fatalf("%d rules were found", len(rules))
	}
	for _, rule := range rules {
		checkQuery(t, rule[2], names)
	}
}

// The manual has all metrics, with their labels, and no others.
func TestMetricsOfTheManual(t *testing.T) {
	names := known(t)
	ours := make(map[string][]string)
	for name, labels := range names {
		if base, isBucket := strings.CutSuffix(name, "_bucket"); isBucket {
			ours[base] = slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return l == "le" })
		} else if strings.HasPrefix(name, "pop3gw_") && !regexp.MustCompile(`_(count|sum)$`).MatchString(name) {
			ours[name] = labels
		}
	}
	maps.DeleteFunc(ours, func(name string, _ []string) bool { return !strings.HasPrefix(name, "pop3gw_") })
	shown := make(map[string]bool)
	word := regexp.MustCompile("`([a-z0-9_]+)`")
	for line := range strings.Lines(readPackaging(t, "docs/monitoring.md")) {
		columns := strings.Split(line, "|")
		if len(columns) < 4 || !strings.HasPrefix(line, "| `pop3gw_") {
			continue
		}
		for _, m := range word.FindAllStringSubmatch(columns[1], -1) {
			shown[m[1]] = true
			labels, ok := ours[m[1]]
			if !ok {
				t.Errorf("there is no metric %s", m[1])
			}
			var told []string
			for _, l := range word.FindAllStringSubmatch(columns[2], -1) {
				told = append(told, l[1])
			}
			slices.Sort(told)
			slices.Sort(labels)
			if !slices.Equal(told, labels) {
				t.Errorf("%s: the manual tells of the labels %v, it has %v", m[1], told, labels)
			}
		}
	}
	for name := range ours {
		if !shown[name] {
			t.Errorf("the manual lacks %s", name)
		}
	}
}

// The manual's table of log events has no event that the program does not write,
// and no key that it does not have.
func TestEventsOfTheManual(t *testing.T) {
	var source strings.Builder
	for _, dir := range []string{"../../gateway", "../../cmd/pop3gw"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
				text, err := os.ReadFile(dir + "/" + e.Name())
				if err != nil {
					t.Fatal(err)
				}
				source.Write(text)
			}
		}
	}
	_, rest, _ := strings.Cut(readPackaging(t, "docs/monitoring.md"), "| `msg` | Level | Keys |")
	table, _, _ := strings.Cut(rest, "\n\n")
	events := 0
	for line := range strings.Lines(table) {
		m := regexp.MustCompile("^\\| `([^`]+)` \\| ([A-Z]+) \\| (.*) \\|\n?$").FindStringSubmatch(line)
		if m == nil {
			continue
		}
		events++
		if !strings.Contains(source.String(), `"`+m[1]+`"`) && !strings.HasPrefix(m[1], "message removed") {
			t.Errorf("no line of the log says %q", m[1])
		}
		for _, key := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[3], -1) {
			if !strings.Contains(source.String(), `"`+key[1]+`",`) {
				t.Errorf("%s: no key is called %s", m[1], key[1])
			}
		}
	}
	if events < 15 {
		t.Errorf("only %d events were found", events)
	}
}
