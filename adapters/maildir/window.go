package maildir

import (
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
	var shown []message
	for _, m := range d.listing.unpack() {
		if aged && m.file.modified < since.UnixNano() || w.UnseenOnly && m.isSeen() {
			continue
		}
		shown = append(shown, m)
	}
	if n := len(shown) - w.MaxMessages; w.MaxMessages > 0 && n > 0 {
		shown = shown[n:]
	}
	d.messages, d.own = shown, true
}
