package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	short    bool
	only     string
	runs     int
	svg, doc string
}

func main() {
	var o options
	flag.BoolVar(&o.short, "short", false, "small sizes: shows that everything works, the figures mean little")
	flag.StringVar(&o.only, "only", "", "run only the works with this `name`, or with it as a part of theirs; several between commas")
	flag.IntVar(&o.runs, "runs", 7, "turns of each contender; works that take long have fewer")
	flag.StringVar(&o.svg, "svg", "", "draw the ratios into this SVG `file`")
	flag.StringVar(&o.doc, "doc", "", "put the table into this Markdown `file`, between its marks")
	flag.Parse()
	if flag.NArg() > 0 || o.runs < 1 {
		fmt.Fprintln(os.Stderr, "bench: no arguments are taken, and -runs is 1 or more")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures, prints and writes what o asks for. A work that fails is
// reported and does not keep the others from running.
func run(ctx context.Context, o options) (err error) {
	debug.SetGCPercent(400) // the client's own collections are part of no figure
	l, err := newLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	s := full
	if o.short {
		s = short
	}
	works := selected(l.works(s), o.only)
	if len(works) == 0 {
		return fmt.Errorf("no work has %q in its name; they are: %s", o.only, names(l.works(s)))
	}
	fmt.Println(environment(ctx, o))
	begin := time.Now()
	if err := l.fill(works); err != nil {
		return fmt.Errorf("writing mail: %w", err)
	}
	fmt.Printf("mail written in %.1f s\n", time.Since(begin).Seconds())
	syscall.Sync() // else it is written while the first works are measured
	time.Sleep(mailSettles)
	var all []outcome
	var failed error
	for _, w := range works {
		begin := time.Now()
		got, err := w.run(ctx, o.runs)
		if ctx.Err() != nil { // what was measured so far is shown, and no file written
			writeTable(os.Stdout, all)
			return errors.Join(failed, ctx.Err())
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", w.name, err))
			fmt.Printf("%-22s FAILED: %v\n", w.name, err)
			continue
		}
		rows := w.outcomes(got)
		fmt.Printf("%-22s %s times better, in %.0f s\n", w.name, figure(rows[0].ratio.median), time.Since(begin).Seconds())
		all = append(all, rows...)
	}
	fmt.Println()
	writeTable(os.Stdout, all)
	return errors.Join(failed, o.write(all, environment(ctx, o)))
}

// write writes the files that were asked for.
func (o options) write(all []outcome, environment string) error {
	var failed error
	if o.svg != "" {
		failed = os.WriteFile(o.svg, chart(all, "logarithmic; medians, and the least and greatest of "+fmt.Sprint(o.runs)), 0o644)
	}
	if o.doc != "" {
		var text strings.Builder
		fmt.Fprintf(&text, "\n%s.\n\n", environment)
		writeMarkdown(&text, all)
		text.WriteString("\n")
		failed = errors.Join(failed, updateDocument(o.doc, text.String()))
	}
	return failed
}

// selected are the works that only names, between commas: by their name, or
// else by a part of it. All are if it is empty.
func selected(all []work, only string) []work {
	if only == "" {
		return all
	}
	chosen := make(map[string]bool)
	for part := range strings.FieldsFuncSeq(only, func(r rune) bool { return r == ',' || r == ' ' }) {
		exact := slices.ContainsFunc(all, func(w work) bool { return w.name == part })
		for _, w := range all {
			if w.name == part || !exact && strings.Contains(w.name, part) {
				chosen[w.name] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(w work) bool { return !chosen[w.name] })
}

func names(all []work) string {
	var list []string
	for _, w := range all {
		list = append(list, w.name)
	}
	return strings.Join(list, ", ")
}

// mailSettles is how long after its delivery mail is old mail to every server: pop3gw
// counts what came within three seconds at each login.
const mailSettles = 5 * time.Second

// environment is one line about what the figures depend on.
func environment(ctx context.Context, o options) string {
	dovecot, err := exec.CommandContext(ctx, "dovecot", "--version").Output()
	if err != nil {
		dovecot = []byte("of unknown version")
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("of unknown version")
	}
	version, _, _ := strings.Cut(string(dovecot), " ")
	release, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-") // less the distribution's suffix
	sizes := ""
	if o.short {
		sizes = ", small sizes"
	}
	return fmt.Sprintf("%s, %d cores (%s), Linux %s, %s, Dovecot %s, %d turns%s", time.Now().UTC().Format(time.DateOnly),
		runtime.NumCPU(), processor(), release, runtime.Version(), strings.TrimSpace(version), o.runs, sizes)
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
