package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Measures of the chart, in user units: about pixels.
const (
	chartWidth = 940
	labelWidth = 368 // for titles, left of the bars
	valueWidth = 90  // for figures, right of the longest bar
	rowHeight  = 24
	barHeight  = 12
	chartTop   = 66 // for the heading and the axis
	chartFoot  = 34
)

// chartStyle has a background of its own, so that the chart is legible whatever
// page it lies on, in the light and in the dark form.
const chartStyle = `
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.page { fill: #ffffff }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.one { stroke: #59636e; stroke-width: 1.5 }
.ok { fill: #1a7f5a }
.short { fill: #c4620a }
.free { fill: #6e7f90 }
.span { stroke: #1f2328; stroke-width: 1.2 }
.target { stroke: #b3261e; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
` + chartDarkStyle + `}
`

// chartDarkStyle is what differs in the dark.
const chartDarkStyle = `text { fill: #e6edf3 }
.small { fill: #9aa5b1 }
.page { fill: #0d1117 }
.grid { stroke: #30363d }
.one { stroke: #9aa5b1 }
.ok { fill: #3fb584 }
.short { fill: #e38a3a }
.free { fill: #7d8fa3 }
.span { stroke: #e6edf3 }
.target { stroke: #ff7b72 }
`

// axis maps ratios to places on a logarithmic scale.
type axis struct{ low, high float64 }

// newAxis spans all ratios and targets, out to whole powers of ten.
func newAxis(all []outcome) axis {
	a := axis{1, 10}
	for _, o := range all {
		for _, v := range []float64{o.ratio.median, o.ratio.min, o.ratio.max, o.targetRatio()} {
			if v > 0 && !math.IsInf(v, 0) {
				a.low, a.high = min(a.low, v), max(a.high, v)
			}
		}
	}
	return axis{math.Pow(10, math.Floor(math.Log10(a.low))), math.Pow(10, math.Ceil(math.Log10(a.high)))}
}

// x is where v stands; what is off the scale stands at its ends.
func (a axis) x(v float64) float64 {
	part := math.Log(min(max(v, a.low), a.high)/a.low) / math.Log(a.high/a.low)
	return labelWidth + part*(chartWidth-labelWidth-valueWidth)
}

// chart draws how many times better each row is than its peer: a bar from 1 to
// the ratio of the medians, a line from the least to the greatest, and a mark at
// the target. The result is an SVG file that is the same for the same outcomes.
func chart(all []outcome, caption string) []byte {
	var b bytes.Buffer
	a := newAxis(all)
	bottom := chartTop + rowHeight*len(all)
	height := bottom + chartFoot
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="How many times better than its peers pop3gw is">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, "<style>%s</style>\n", chartStyle)
	fmt.Fprintf(&b, `<rect class="page" width="%d" height="%d" rx="6"/>`+"\n", chartWidth, height)
	text(&b, "title", 16, 26, "start", "pop3gw: how many times better than its peers")
	for decade := a.low; decade <= a.high*1.01; decade *= 10 {
		class := "grid"
		if math.Abs(decade-1) < 1e-9 {
			class = "one"
		}
		line(&b, class, a.x(decade), chartTop-6, a.x(decade), float64(bottom))
		text(&b, "small", a.x(decade), chartTop-12, "middle", fmt.Sprintf("%g", math.Round(decade*1e6)/1e6))
	}
	for i, o := range all {
		drawRow(&b, a, float64(chartTop+i*rowHeight), o)
	}
	legend(&b, float64(bottom)+20, caption)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func drawRow(b *bytes.Buffer, a axis, top float64, o outcome) {
	middle := top + rowHeight/2
	title := fmt.Sprintf("%s / %s", o.title, o.peer)
	text(b, "", labelWidth-10, middle+4, "end", title)
	class, mark := "free", ""
	if o.hasTarget() {
		class, mark = "short", " not yet"
		if o.reached() {
			class, mark = "ok", ""
		}
	}
	from, to := a.x(min(1, o.ratio.median)), a.x(max(1, o.ratio.median))
	fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d" rx="2"/>`+"\n", class, from, middle-barHeight/2, max(to-from, 1), barHeight)
	line(b, "span", a.x(o.ratio.min), middle, a.x(o.ratio.max), middle)
	end := max(to, a.x(o.ratio.max))
	if t := o.targetRatio(); t > 0 {
		line(b, "target", a.x(t), middle-barHeight/2-3, a.x(t), middle+barHeight/2+3)
		end = max(end, a.x(t))
	}
	text(b, "", end+6, middle+4, "start", figure(o.ratio.median)+mark)
}

func legend(b *bytes.Buffer, y float64, caption string) {
	x := 16.0
	for _, entry := range []struct{ class, words string }{{"ok", "target reached"}, {"short", "not yet"}, {"free", "no target"}} {
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="14" height="10" rx="2"/>`+"\n", entry.class, x, y-9)
		text(b, "small", x+19, y, "start", entry.words)
		x += 32 + 7*float64(len(entry.words))
	}
	line(b, "target", x+4, y-11, x+4, y+2)
	text(b, "small", x+12, y, "start", "target")
	text(b, "small", chartWidth-16, y, "end", caption)
}

func line(b *bytes.Buffer, class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func text(b *bytes.Buffer, class string, x, y float64, anchor, words string) {
	var escaped strings.Builder
	xml.EscapeText(&escaped, []byte(words))
	fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, escaped.String())
}
