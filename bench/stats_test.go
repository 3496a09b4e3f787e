package main

import (
	"math"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1, 3}, spread{3, 1, 5}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4}},
	} {
		if got := spreadOf(tt.values); got != tt.want {
			t.Errorf("spreadOf(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	values := make([]float64, 101)
	for i := range values {
		values[i] = float64(i)
	}
	for _, p := range []float64{0, 50, 99, 100} {
		if got := percentile(values, p); math.Abs(got-p) > 1e-9 {
			t.Errorf("percentile %v is %v", p, got)
		}
	}
}

func TestRatios(t *testing.T) {
	// 10 ms against 40 ms is four times better, 10 MB/s against 40 a quarter.
	if got, want := ratios([]float64{10, 20, 10}, []float64{40, 40, 50}, false), (spread{4, 2, 5}); got != want {
		t.Errorf("lower is better: %v, want %v", got, want)
	}
	if got, want := ratios([]float64{10, 20}, []float64{40, 40}, true), (spread{0.375, 0.25, 0.5}); got != want {
		t.Errorf("higher is better: %v, want %v", got, want)
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.01234: "0.0123", 0.5: "0.500", 1: "1.00", 9.996: "10.00", 12.34: "12.3", 123.4: "123",
		1234.5: "1,234", 1234567: "1,234,567", -1234: "-1,234", -123: "-123",
	} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %q, want %q", v, got, want)
		}
	}
	if got := count(100_000); got != "100,000" {
		t.Errorf("count gives %q", got)
	}
}
