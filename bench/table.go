package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// outcome is a row with what was measured.
type outcome struct {
	row
	ours, theirs spread
	ratio        spread
	alone        spread // of the client with canned replies; zero for none
}

// outcomes are the rows of w.
func (w work) outcomes(got results) []outcome {
	var all []outcome
	for _, r := range w.rows {
		ours, theirs := got[nameGateway][r.metric], got[r.peer][r.metric]
		o := outcome{row: r, ours: spreadOf(ours), theirs: spreadOf(theirs), ratio: ratios(ours, theirs, r.higher)}
		if alone := got[nameClient]; alone != nil {
			o.alone = spreadOf(alone[r.metric])
		}
		all = append(all, o)
	}
	return all
}

// targetRatio is the ratio that the row wants, where that can be said.
func (o outcome) targetRatio() float64 {
	switch {
	case o.limit > 0 && o.higher:
		return o.limit / o.theirs.median
	case o.limit > 0:
		return o.theirs.median / o.limit
	}
	return o.row.ratio
}

// hasTarget says whether there is something to reach.
func (o outcome) hasTarget() bool { return o.targetRatio() > 0 }

// reached says whether the medians reach the target.
func (o outcome) reached() bool { return o.ratio.median >= o.targetRatio() }

var tableHead = []string{"Work", "pop3gw", "Peer", "Times better", "Target", "", "Client alone"}

// cells are the columns of tableHead.
func (o outcome) cells() []string {
	span := func(s spread) string {
		return fmt.Sprintf("%s [%s-%s]", figure(s.median), figure(s.min), figure(s.max))
	}
	target, verdict, alone := "", "", ""
	if o.hasTarget() {
		verdict = "not yet"
		if o.reached() {
			verdict = "ok"
		}
		target = fmt.Sprintf("%g", o.row.ratio)
		if o.limit > 0 {
			target = fmt.Sprintf("%.4g %s", o.limit, o.unit)
		}
		if o.why != "" {
			target += ", " + o.why
		}
	}
	if o.alone != (spread{}) {
		alone = figure(o.alone.median)
	}
	return []string{o.title, span(o.ours) + " " + o.unit, o.peer + " " + span(o.theirs), span(o.ratio), target, verdict, alone}
}

// writeTable writes columns with spaces between.
func writeTable(w io.Writer, all []outcome) {
	lines := [][]string{tableHead}
	for _, o := range all {
		lines = append(lines, o.cells())
	}
	width := make([]int, len(tableHead))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		text := ""
		for i, cell := range line {
			text += fmt.Sprintf("%-*s  ", width[i], cell)
		}
		fmt.Fprintln(w, strings.TrimRight(text, " "))
	}
}

// writeMarkdown writes the table for a document.
func writeMarkdown(w io.Writer, all []outcome) {
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(tableHead)
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|")
	for _, o := range all {
		line(o.cells())
	}
}

// Between these lines of a document the table stands.
const (
	tableBegin = "<!-- what go run ./bench has found -->\n"
	tableEnd   = "<!-- end of what it has found -->\n"
)

// updateDocument puts text between the two marks in the file.
func updateDocument(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := bytes.Cut(old, []byte(tableBegin))
	_, tail, ended := bytes.Cut(rest, []byte(tableEnd))
	if !found || !ended {
		return errors.New(path + " has no place for the table: " + strings.TrimSpace(tableBegin))
	}
	return os.WriteFile(path, bytes.Join([][]byte{head, []byte(tableBegin), []byte(text), []byte(tableEnd), tail}, nil), 0o644)
}
