package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func sampleOutcomes() []outcome {
	same := func(v float64) spread { return spread{v, v, v} }
	return []outcome{
		{row: row{title: "poll", unit: "ms", peer: "Dovecot", ratio: 2}, ours: same(1), theirs: same(4), ratio: spread{4, 3, 5}},
		{row: row{title: "storm <&>", unit: "sessions/s", higher: true, peer: "imapc", ratio: 4}, ours: same(20), theirs: same(40), ratio: spread{0.5, 0.4, 0.6}},
		{row: row{title: "idle", unit: "kB", peer: "Dovecot", limit: 50, why: "a fifth"}, ours: same(40), theirs: same(800), ratio: same(20), alone: same(3)},
		{row: row{title: "pipelined", unit: "MB/s", higher: true, peer: "Dovecot"}, ours: same(3), theirs: same(2), ratio: same(1.5)},
	}
}

func TestOutcome(t *testing.T) {
	all := sampleOutcomes()
	for i, want := range []struct {
		target  float64
		reached bool
	}{{2, true}, {4, false}, {16, true}, {0, true}} {
		if got := all[i].targetRatio(); got != want.target {
			t.Errorf("%s: target %v, want %v", all[i].title, got, want.target)
		}
		if all[i].reached() != want.reached {
			t.Errorf("%s: reached is %v", all[i].title, all[i].reached())
		}
	}
	w := work{rows: []row{{peer: nameDovecot, metric: 1}, {peer: nameDovecot, higher: true}}}
	got := w.outcomes(results{
		nameGateway: {{100, 300, 200}, {1, 2, 4}},
		nameDovecot: {{50, 50, 50}, {8, 8, 8}},
		nameClient:  {{1000}, {0.5}},
	})
	if want := (spread{4, 2, 8}); got[0].ratio != want || got[0].alone.median != 0.5 {
		t.Errorf("lower is better: %+v, want ratio %v", got[0], want)
	}
	if want := (spread{4, 2, 6}); got[1].ratio != want || got[1].alone.median != 1000 {
		t.Errorf("higher is better: %+v, want ratio %v", got[1], want)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	writeMarkdown(&b, sampleOutcomes())
	want := `| Work | pop3gw | Peer | Times better | Target |  | Client alone |
|---|---|---|---|---|---|---|
| poll | 1.00 [1.00-1.00] ms | Dovecot 4.00 [4.00-4.00] | 4.00 [3.00-5.00] | 2 | ok |  |
| storm <&> | 20.0 [20.0-20.0] sessions/s | imapc 40.0 [40.0-40.0] | 0.500 [0.400-0.600] | 4 | not yet |  |
| idle | 40.0 [40.0-40.0] kB | Dovecot 800 [800-800] | 20.0 [20.0-20.0] | 50 kB, a fifth | ok | 3.00 |
| pipelined | 3.00 [3.00-3.00] MB/s | Dovecot 2.00 [2.00-2.00] | 1.50 [1.50-1.50] |  |  |  |
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUpdateDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.md")
	if err := os.WriteFile(path, []byte("before\n"+tableBegin+"old\n"+tableEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := updateDocument(path, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "before\n" + tableBegin + "new\n" + tableEnd + "after\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	os.WriteFile(path, []byte("no marks"), 0o644)
	if updateDocument(path, "new\n") == nil {
		t.Error("a document without marks was changed")
	}
}

// The document of this project has the place for the table.
func TestDocumentHasMarks(t *testing.T) {
	text, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), tableBegin) || !strings.Contains(string(text), tableEnd) {
		t.Error("docs/performance.md lacks the marks")
	}
}

func TestAxis(t *testing.T) {
	a := newAxis(sampleOutcomes())
	if a.low != 0.1 || a.high != 100 {
		t.Fatalf("%+v, want 0.1 to 100", a)
	}
	width := float64(chartWidth - labelWidth - valueWidth)
	for v, want := range map[float64]float64{0.1: 0, 1: width / 3, 10: width * 2 / 3, 100: width, 0.001: 0, 1e6: width} {
		if got := a.x(v) - labelWidth; math.Abs(got-want) > 1e-6 {
			t.Errorf("%v stands at %v, want %v", v, got, want)
		}
	}
}

// The chart is well-formed, shows every row once, and nothing outside.
func TestChart(t *testing.T) {
	all := sampleOutcomes()
	svg := chart(all, "medians of 3")
	if !bytes.Equal(svg, chart(all, "medians of 3")) {
		t.Error("two charts of the same outcomes differ")
	}
	bars, words := make(map[string]int), ""
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch e := token.(type) {
		case xml.CharData:
			words += string(e)
		case xml.StartElement:
			for _, attr := range e.Attr {
				switch attr.Name.Local {
				case "class":
					bars[attr.Value]++
				case "x", "x1", "x2":
					if v, err := strconv.ParseFloat(attr.Value, 64); err != nil || v < 0 || v > chartWidth {
						t.Errorf("%s=%q", attr.Name.Local, attr.Value)
					}
				}
			}
		}
	}
	// Each class stands in the legend once more.
	for class, want := range map[string]int{"ok": 3, "short": 2, "free": 2, "target": 4, "one": 1, "grid": 3, "span": 4} {
		if bars[class] != want {
			t.Errorf("%d of class %s, want %d", bars[class], class, want)
		}
	}
	for _, want := range []string{"poll / Dovecot", "storm <&> / imapc", "0.500 not yet", "medians of 3"} {
		if strings.Count(words, want) != 1 {
			t.Errorf("%q is there %d times", want, strings.Count(words, want))
		}
	}
}
