package maildir

import (
	"slices"
	"time"

	"pop3gw/gateway"
)

// narrow leaves of the messages those that the window shows. How old a message is
// the time of its file says, which programs keep when they move or copy it.
func (d *maildrop) narrow() {
	w := d.policy.Window
	if *w == (gateway.Window{}) {
		return
	}
	since, aged := w.MaxAge.Before(time.Now())
	var shown []int32
	for i := range d.Len() {
		m := d.view(i)
		if aged && m.file.modified < since.UnixNano() || w.UnseenOnly && m.isSeen() {
			continue
		}
		shown = append(shown, int32(i))
	}
	if n := len(shown) - w.MaxMessages; w.MaxMessages > 0 && n > 0 {
		shown = slices.Clone(shown[n:])
	}
	if len(shown) == d.Len() {
		return
	}
	messages := make([]message, len(shown))
	for k, i := range shown {
		messages[k] = *d.message(int(i))
	}
	d.messages, d.own, d.shown = messages, true, shown
	d.reader = cursor{}
}
