package main

import (
	"math"
	"slices"
	"strconv"
)

// spread is what several runs of one measurement gave.
type spread struct {
	median, min, max float64
}

// spreadOf is of one value or more.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{percentile(sorted, 50), sorted[0], sorted[len(sorted)-1]}
}

// percentile interpolates between the two nearest ranks of sorted values, so
// that the 50th is the median.
func percentile(sorted []float64, p float64) float64 {
	rank := p / 100 * float64(len(sorted)-1)
	low := int(rank)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (rank-float64(low))*(sorted[high]-sorted[low])
}

// ratios says how many times better ours are than theirs: the ratio of the
// medians, and the least and the greatest of the ratios in one turn.
func ratios(ours, theirs []float64, higherIsBetter bool) spread {
	better := func(a, b float64) float64 {
		if !higherIsBetter {
			a, b = b, a
		}
		return a / b
	}
	var turns []float64
	for i := range min(len(ours), len(theirs)) {
		turns = append(turns, better(ours[i], theirs[i]))
	}
	s := spreadOf(turns)
	s.median = better(spreadOf(ours).median, spreadOf(theirs).median)
	return s
}

// figure writes v with three significant digits and commas.
func figure(v float64) string {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	s := strconv.FormatFloat(v, 'f', min(digits, 4), 64)
	if digits > 0 {
		return s
	}
	return commas(s)
}

// count writes a number of things.
func count(n int) string { return commas(strconv.Itoa(n)) }

func commas(s string) string {
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
