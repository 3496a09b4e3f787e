package imap

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// uidSet writes the first n of uids, which ascend, as the set of a command, "3,7:9": as
// many as fit into so many octets. Only neighbours share a range: in a gap there may be
// a message that was not listed.
func uidSet(uids []uint32, octets int) (set string, n int) {
	var b []byte
	for n < len(uids) && len(b) < octets-len("4294967295:4294967295") {
		if n > 0 {
			b = append(b, ',')
		}
		first := n
		for n++; n < len(uids) && uids[n] == uids[n-1]+1; n++ {
		}
		b = strconv.AppendUint(b, uint64(uids[first]), 10)
		if n-1 > first {
			b = strconv.AppendUint(append(b, ':'), uint64(uids[n-1]), 10)
		}
	}
	return string(b), n
}

// formatUIDs writes uids, ascending, as parseUIDs reads them.
func formatUIDs(uids []uint32) string {
	set, _ := uidSet(uids, math.MaxInt)
	return set
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
