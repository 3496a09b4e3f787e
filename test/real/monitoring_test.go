//go:build real

package real

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// many sessions are there while Prometheus scrapes.
const many = 1000

// TestPrometheus has a Prometheus scrape a gateway with 1,000 sessions each
// second, evaluate the alerts, and answer what the dashboard asks.
func TestPrometheus(t *testing.T) {
	rules, err := filepath.Abs("../../packaging/prometheus/pop3gw.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(time.Minute, exec.Command("promtool", "check", "rules", rules)); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}

	mail := newMaildirs(t)
	var users strings.Builder
	for i := range many {
		user := fmt.Sprintf("user%d", i)
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", user, password)
		mail.deliver(t, user, letter("one", "text\n"))
	}
	write(t, mail.users, users.String(), 0o644)
	admin := loopback(freePort(t))
	g := startGateway(t, mail, fmt.Sprintf("[admin]\naddress = %q\n", admin))

	dir := folder(t)
	config := filepath.Join(dir, "prometheus.yml")
	write(t, config, fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: pop3gw, static_configs: [{targets: [%q]}]}]
`, rules, admin), 0o644)
	prometheus := promAPI(fmt.Sprintf("http://%s", loopback(freePort(t))))
	start(t, "prometheus", exec.Command("prometheus", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", strings.TrimPrefix(string(prometheus), "http://"), "--log.level", "warn"))

	sessions := make([]*pop3, many)
	var clients sync.WaitGroup
	for worker := range 20 {
		clients.Go(func() {
			for i := worker; i < many; i += 20 {
				c, err := dialPOP3(g.addr())
				if err != nil {
					t.Error(err)
					return
				}
				sessions[i] = c
				for _, command := range []string{fmt.Sprintf("USER user%d", i), "PASS " + password, "STAT"} {
					if _, err := c.command("%s", command); err != nil {
						t.Errorf("%s: %v", command, err)
					}
				}
			}
		})
	}
	clients.Wait()
	defer func() {
		for _, c := range sessions {
			if c != nil {
				c.conn.Close()
			}
		}
	}()
	if t.Failed() {
		return
	}
	prometheus.until(t, "sum(pop3gw_sessions)", many) // else it would see no change
	// They go on working, and some of what the dashboard shows happens.
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for _, c := range sessions[:many/2] {
			if _, err := c.command("NOOP"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, c := range sessions[:20] {
		c.retrieve(t, 1)
		if i < 10 {
			c.command("DELE 1")
			if _, err := c.command("QUIT"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c, err := dialPOP3(g.addr()); err == nil {
		c.command("USER nobody")
		c.command("PASS wrong")
		c.command("QUIT")
	}
	prometheus.until(t, "sum(pop3gw_sessions)", many-10)
	prometheus.until(t, `sum(pop3gw_sessions{state="transaction"})`, many-10)
	prometheus.until(t, `pop3gw_messages_total{operation="dele"}`, 10)
	prometheus.until(t, `sum(pop3gw_logins_total{result="ok"})`, many)
	prometheus.until(t, `count_over_time(up{job="pop3gw"}[1m]) > bool 5`, 1) // and rules were evaluated
	if worst := prometheus.value(t, `max_over_time(scrape_duration_seconds{job="pop3gw"}[1m])`); worst > 0.5 {
		t.Errorf("a scrape took %v s", worst)
	} else {
		t.Logf("the slowest scrape took %v s", worst)
	}
	if up := prometheus.value(t, `min_over_time(up{job="pop3gw"}[1m])`); up != 1 {
		t.Error("a scrape failed")
	}
	for _, r := range prometheus.rules(t) {
		if r.Health != "ok" {
			t.Errorf("alert %s: %s", r.Name, r.LastError)
		}
		want := "inactive"
		if r.Name == "Pop3gwCertificateExpires" {
			want = "pending" // the tests' certificate is good for a day
		}
		if r.State != want {
			t.Errorf("alert %s is %s, want %s", r.Name, r.State, want)
		}
	}
	time.Sleep(2 * time.Second) // rates want two scrapes behind what happened
	prometheus.checkDashboard(t)

	out, err := exec.Command("sh", "-c", "curl -sS http://"+admin+"/metrics | promtool check metrics").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// promAPI is the address of a Prometheus.
type promAPI string

func (p promAPI) ask(path string, into any) error {
	response, err := http.Get(string(p) + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return json.Unmarshal(body, into)
}

// query returns the values that a query has now.
func (p promAPI) query(query string) ([]float64, error) {
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := p.ask("/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil {
		return nil, err
	}
	var values []float64
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func (p promAPI) value(t *testing.T, query string) float64 {
	t.Helper()
	values, err := p.query(query)
	if err != nil || len(values) != 1 {
		t.Fatalf("%s is %v, %v", query, values, err)
	}
	return values[0]
}

// until waits for the only value of a query.
func (p promAPI) until(t *testing.T, query string, want float64) {
	t.Helper()
	var values []float64
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if values, err = p.query(query); err == nil && len(values) == 1 && values[0] == want {
			return
		}
	}
	t.Fatalf("%s is %v, %v; want %v", query, values, err, want)
}

type promRule struct{ Name, Health, LastError, State string }

// rules returns the alerts, once each was evaluated.
func (p promAPI) rules(t *testing.T) (rules []promRule) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var answer struct {
			Data struct{ Groups []struct{ Rules []promRule } }
		}
		if err := p.ask("/api/v1/rules", &answer); err != nil || len(answer.Data.Groups) != 1 {
			continue
		}
		rules = answer.Data.Groups[0].Rules
		unknown := 0
		for _, r := range rules {
			if r.Health == "unknown" {
				unknown++
			}
		}
		if len(rules) > 0 && unknown == 0 {
			return rules
		}
	}
	t.Fatalf("the rules are %+v", rules)
	return nil
}

// mayBeEmpty are panels that a healthy gateway over Maildirs has nothing for.
var mayBeEmpty = map[string]bool{
	"Connections to mail servers": true, "Waiting, and left alone": true,
}

// checkDashboard asks what each panel asks.
func (p promAPI) checkDashboard(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../packaging/grafana/pop3gw.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "1m")
	asked := 0
	for _, panel := range dashboard.Panels {
		answered := len(panel.Targets) == 0
		for _, target := range panel.Targets {
			asked++
			values, err := p.query(variables.Replace(target.Expr))
			if err != nil {
				t.Errorf("%s: %s: %v", panel.Title, target.Expr, err)
			}
			answered = answered || len(values) > 0
		}
		if !answered && !mayBeEmpty[panel.Title] {
			t.Errorf("%s has nothing to show", panel.Title)
		}
	}
	if asked < 30 {
		t.Errorf("only %d queries were found", asked)
	}
}
