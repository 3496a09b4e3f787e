package imap

import (
	"errors"
	"strconv"
	"strings"
)

// formatUIDs writes uids, ascending, as parseUIDs reads them: "3,7:9".
func formatUIDs(uids []uint32) string {
	var b []byte
	for i := 0; i < len(uids); {
		first := i
		for i++; i < len(uids) && uids[i] == uids[i-1]+1; i++ {
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(uids[first]), 10)
		if i-1 > first {
			b = strconv.AppendUint(append(b, ':'), uint64(uids[i-1]), 10)
		}
	}
	return string(b)
}

var errUIDText = errors.New("not a list of UIDs")

// parseUIDs is the reverse of formatUIDs. It takes any text.
func parseUIDs(text string) (uids []uint32, err error) {
	if text == "" {
		return nil, nil
	}
	last := uint64(0)
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, ":")
		start, err := strconv.ParseUint(from, 10, 32)
		stop := start
		if err == nil && isRange {
			stop, err = strconv.ParseUint(to, 10, 32)
		}
		if err != nil || start <= last || stop < start || uint64(len(uids))+stop-start >= maxMessages {
			return nil, errUIDText
		}
		for uid := start; uid <= stop; uid++ {
			uids = append(uids, uint32(uid))
		}
		last = stop
	}
	return uids, nil
}
