package account

import "pop3gw/gateway"

var (
	_ gateway.Offerer      = (*Directory)(nil)
	_ gateway.ExpiryTeller = (*Directory)(nil)
)

// fits say whether a user can log in by a mechanism that is not for everybody. s
// is nil where the store checks the password, and forward says that it does, or
// that it wants the client's password even so.
var fits = map[string]func(s *secret, forward bool) bool{
	"APOP":        func(s *secret, forward bool) bool { return s != nil && s.plain != nil && !forward },
	"OAUTHBEARER": func(s *secret, forward bool) bool { return s == nil && forward },
	"XOAUTH2":     func(s *secret, forward bool) bool { return s == nil && forward },
	"EXTERNAL":    func(_ *secret, forward bool) bool { return !forward },

	"SCRAM-SHA-256": fitsSCRAM,
}

// tally is whether some can log in by a mechanism, and whether some cannot.
type tally struct{ can, cannot bool }

func (t *tally) count(can bool) {
	t.can, t.cannot = t.can || can, t.cannot || !can
}

// tallies counts what does not change: Config.Users, and routes without a
// passwd-file, of which each is taken for a user, as are those who enrol.
func (d *Directory) tallies() map[string]tally {
	all := make(map[string]tally)
	for mechanism, fits := range fits {
		var t tally
		for _, u := range d.users {
			t.count(fits(u.secret, u.secret == nil && u.Target.ChecksPasswords))
		}
		if d.enrolled != nil {
			t.count(mechanism == "SCRAM-SHA-256" || mechanism == "EXTERNAL")
		}
		for _, r := range d.routes {
			if r.file == nil {
				t.count(fits(nil, r.forwards()))
			}
		}
		all[mechanism] = t
	}
	return all
}

// Offers implements gateway.Offerer. A passwd-file that cannot be read counts as
// empty.
func (d *Directory) Offers(mechanism string) (some, all bool) {
	t, special := d.fixed[mechanism]
	if !special {
		return true, true
	}
	for _, r := range d.routes {
		if r.file == nil {
			continue
		}
		if table, err := r.file.current(); err == nil {
			for _, s := range table.kinds {
				t.count(fits[mechanism](s, r.forwards()))
			}
		}
	}
	return t.can, t.can && !t.cannot
}

// Expiry implements gateway.ExpiryTeller. Each route is taken for a user, as is each
// policy of those who enrol.
func (d *Directory) Expiry() (least gateway.Age, varies bool) {
	var ages []gateway.Age
	for _, u := range d.users {
		ages = append(ages, max(0, u.Policy.ExpireAfter))
	}
	for _, r := range d.routes {
		ages = append(ages, max(0, r.Policy.ExpireAfter))
	}
	for _, p := range d.policies {
		ages = append(ages, max(0, p.ExpireAfter))
	}
	for _, age := range ages {
		if age > 0 && (least == 0 || age < least) {
			least = age
		}
		varies = varies || age != ages[0]
	}
	return least, varies
}
